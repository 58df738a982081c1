"""How a model was trained, from the finetune store to MLflow: curves by step, costs and the forms' differences.

write(home, digest, evidence / RECORD)                  # beside the evaluation, when this home trained it
figures(evidence)          # {"training/train_loss": [(120, 0.42), …], "training/temperature": 1.31, …}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import TokkaError
from tokka.registry.entities import Figure

RECORD = "training.json"
KEPT = ("metrics", "curves", "seconds", "cpu_seconds", "precision", "threads", "base", "digest", "training_reused")

Tree = Mapping[str, Any]


def find(home: Path, digest: str) -> dict[str, Any] | None:
    """The outcome of the fine-tuning that made the model with this digest; None when it was trained elsewhere.

    The model folder itself does not hold it: the same weights must have the same digest, however long they took.
    """
    for path in sorted((home / "store" / "finetune").glob("*/outcome.json")):
        try:
            outcome = files.read_json(path)
        except TokkaError:
            continue
        if isinstance(outcome, dict) and outcome.get("digest") == digest:
            return outcome
    return None


def write(home: Path, digest: str, target: Path) -> bool:
    """Put the finetune outcome of the model with this digest into `target`; False when it was trained elsewhere."""
    outcome = find(home, digest)
    if outcome is None:
        return False
    files.write_json(target, {name: outcome[name] for name in KEPT if name in outcome})
    return True


def figures(evidence: Path) -> dict[str, Figure]:
    """What an evidence folder's record holds, as MLflow metrics: curves with their steps, and single figures.

    A figure whose name has a curve is called `final_`; a folder without a record has none.
    """
    path = evidence / RECORD
    record: dict[str, Any] = files.read_json(path) if path.is_file() else {}
    found: dict[str, Figure] = {f"training/{name}": curve for name, curve in _curves(record).items()}
    single = {**(record.get("metrics") or {}), **{name: record.get(name) for name in ("seconds", "cpu_seconds")}}
    for name, value in single.items():
        if isinstance(value, int | float):
            place = f"training/{name}"
            found[f"training/final_{name}" if place in found else place] = float(value)
    return found


def _curves(record: Tree) -> dict[str, list[tuple[int, float]]]:
    rows = record.get("curves") or []
    names = sorted({name for row in rows for name in row if name != "step"})
    return {name: [(int(row["step"]), float(row[name])) for row in rows if name in row] for name in names}
