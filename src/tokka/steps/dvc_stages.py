"""The steps as DVC stages: each reads params.yaml and its inputs in a folder, and writes its outputs there.

| Stage         | Reads                  | Writes          |
|---------------|------------------------|-----------------|
| validate_data | data.source            | build/rows/     |
| preprocess    | build/rows/            | build/prepared/ |
| finetune      | build/prepared/        | build/model/    |
| evaluate      | build/prepared, model  | build/evidence/ |
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from tokka import progress
from tokka.params import Params
from tokka.settings import Settings

Stage = Callable[[Params, Settings, Path], None]


def validate_data(params: Params, settings: Settings, folder: Path) -> None:
    """Read and validate data.source."""
    from tokka.steps import validate_data as step

    step.run(params, settings, _fresh(folder / "build/rows"))


def preprocess(params: Params, settings: Settings, folder: Path) -> None:
    """Split build/rows; the same function that a run's own DVC workspace calls."""
    from tokka.data.preparation.stage import run_preprocess

    with progress.step("preprocess"):
        run_preprocess(folder, params)


def finetune(params: Params, settings: Settings, folder: Path) -> None:
    """Train on build/prepared."""
    from tokka.steps import finetune as step

    step.run(params, settings, folder / "build/prepared", _fresh(folder / "build/model"))


def evaluate(params: Params, settings: Settings, folder: Path) -> None:
    """Measure build/model against the champion and the general baseline; logs to no server."""
    from tokka.evaluation.complete import complete
    from tokka.evaluation.evaluate import default_cache
    from tokka.evaluation.evaluate import evaluate as measure
    from tokka.steps.evaluate import find_champion

    champion, evidence = find_champion(params, settings), _fresh(folder / "build/evidence")
    prepared, model = folder / "build/prepared", folder / "build/model"
    measure(prepared, model, champion, params, evidence)
    complete(evidence, prepared, model, champion.folder, params, default_cache())


def _fresh(folder: Path) -> Path:
    """DVC removes outputs before a stage runs; a run by hand must not mix old files with new ones."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


STAGES: dict[str, Stage] = {
    "validate_data": validate_data,
    "preprocess": preprocess,
    "finetune": finetune,
    "evaluate": evaluate,
}
