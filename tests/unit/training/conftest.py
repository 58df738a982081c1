"""One tiny base model and one trained specialist for all tests of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.prepared_rows import make_prepared
from tests.fixtures.tiny_model import make_tiny_base
from tokka.params import Params, parse_params
from tokka.training.finetuning import finetune

MakeParams = Callable[..., Params]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def make_params(base: Path) -> MakeParams:
    """Params of a training that takes a second; keyword arguments go to the finetuning section."""

    def make(*, task: dict[str, Any] | None = None, export: dict[str, Any] | None = None, **finetuning: Any) -> Params:
        small = {"epochs": 2, "batch_size": 16, "learning_rate": 2e-3, "threads": 1, **finetuning}
        tree = {"model": {"base": str(base)}, "task": task or {}, "export": export or {}, "finetuning": small}
        return parse_params(tree)

    return make


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prepared: Path, make_params: MakeParams
) -> tuple[Path, dict[str, Any]]:
    """A model folder and what `finetune` returned; copy the folder before changing it."""
    place = tmp_path_factory.mktemp("trained")
    outcome = finetune(prepared, make_params(), place / "model", place / "work")
    return place / "model", outcome
