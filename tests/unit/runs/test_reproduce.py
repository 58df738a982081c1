"""A version is rebuilt in the precision that its training took, whatever a timing would say now."""

from pathlib import Path
from typing import Any

import pytest

from tokka.params import Params, parse_params
from tokka.runs import reproduce
from tokka.settings import Settings
from tokka.steps import finetune, preprocess, validate_data


@pytest.mark.parametrize(
    ("recorded", "taken"), [({"precision": "bf16"}, "bf16"), ({"precision": "32"}, "32"), ({}, "auto")]
)
def test_the_precision_is_that_of_the_lineage(
    recorded: dict[str, str], taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Params] = []

    def train(params: Params, *_: Any) -> dict[str, str]:
        asked.append(params)
        return {"digest": "m"}

    monkeypatch.setattr(validate_data, "run", lambda *_: None)
    monkeypatch.setattr(preprocess, "run", lambda *_: {"lock": "", "digest": "d"})
    monkeypatch.setattr(finetune, "run", train)
    lineage = {"snapshot": "", "dvc_lock": "", "data_digest": "d", "model_digest": "m", **recorded}
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
    links = reproduce.outputs(lineage, parse_params({"finetuning": {"precision": "auto"}}), settings)
    assert [params.finetuning.precision for params in asked] == [taken]
    assert all(link.same for link in links)
