"""What the training of a model took: looked up where the step finetune keeps its outcomes.

    cpu_seconds(home, model_digest(folder))       # None when it was trained elsewhere

The model folder itself does not say it: the same weights must have the same digest, however long they took.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import TokkaError


def spent(outcome: Mapping[str, Any]) -> float:
    """Processor seconds of a finetune outcome; of a resumed training, those of all its parts."""
    metrics = outcome.get("metrics", {})
    return max(float(outcome.get("cpu_seconds", 0.0)), float(metrics.get("training_cpu_seconds", 0.0)))


def cpu_seconds(home: Path, digest: str) -> float | None:
    """Of the model with this digest, from the store in `home`."""
    for path in sorted((home / "store" / "finetune").glob("*/outcome.json")):
        try:
            outcome = files.read_json(path)
        except TokkaError:
            continue
        if isinstance(outcome, dict) and outcome.get("digest") == digest:
            return spent(outcome)
    return None
