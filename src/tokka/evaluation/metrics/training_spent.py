"""What the training of a model took, from the finetune outcome that the store keeps.

cpu_seconds(home, model_digest(folder))       # None when it was trained elsewhere
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokka.registry.metrics import find_training


def spent(outcome: Mapping[str, Any]) -> float:
    """Processor seconds of a finetune outcome; of a resumed training, those of all its parts."""
    metrics = outcome.get("metrics", {})
    return max(float(outcome.get("cpu_seconds", 0.0)), float(metrics.get("training_cpu_seconds", 0.0)))


def cpu_seconds(home: Path, digest: str) -> float | None:
    """Of the model with this digest, from the store in `home`."""
    outcome = find_training(home, digest)
    return None if outcome is None else spent(outcome)
