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
from tokka.steps import finetune, validate_data


def preprocess(params: Params, settings: Settings, folder: Path) -> None:
    """Split build/rows; the same function that a run's own DVC workspace calls."""
    from tokka.data.preparation.stage import run_preprocess

    with progress.step("preprocess"):
        run_preprocess(folder, params)


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


STAGES: dict[str, Callable[[Params, Settings, Path], object]] = {
    "validate_data": lambda params, settings, folder: validate_data.run(
        params, settings, _fresh(folder / "build/rows")
    ),
    "preprocess": preprocess,
    "finetune": lambda params, settings, folder: finetune.run(
        params, settings, folder / "build/prepared", _fresh(folder / "build/model")
    ),
    "evaluate": evaluate,
}
