"""What a run shows as MLflow metrics: of the evaluation, of what was examined beside it, and of the training.

    training_written = write_training(home, digest, evidence)        # training.json, when this home trained the model
    metrics = of_evidence(evidence)      # {"candidate/accuracy": 0.94, "training/train_loss": [(120, 0.42), …], …}

Figures that were not computed are left out.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from tokka import files
from tokka.errors import TokkaError
from tokka.registry.entities import Figure, Json

TRAINING = "training.json"
KEPT = ("metrics", "curves", "seconds", "cpu_seconds", "precision", "threads", "base", "digest", "training_reused")
# What MLflow does not take in the name of a metric; a behaviour test's name is the user's own.
FOREIGN = re.compile(r"[^\w\-. /]+", re.ASCII)


def find_training(home: Path, digest: str) -> Json | None:
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


def write_training(home: Path, digest: str, evidence: Path) -> bool:
    """Put the finetune outcome of the model with this digest into the evidence; False when it was trained elsewhere."""
    outcome = find_training(home, digest)
    if outcome is not None:
        files.write_json(evidence / TRAINING, {name: outcome[name] for name in KEPT if name in outcome})
    return outcome is not None


def of_evidence(evidence: Path) -> dict[str, Figure]:
    """Everything that an evidence folder holds as metrics; details.json and training.json may lack.

    Raises:
        TokkaError: evaluation.json cannot be read.
    """
    details, training = (
        files.read_json(path) if path.is_file() else {} for path in (evidence / "details.json", evidence / TRAINING)
    )
    evaluation = of_evaluation(files.read_json(evidence / "evaluation.json"))
    return {**evaluation, **of_details(details), **of_training(training)}


def of_evaluation(evaluation: Json) -> dict[str, float]:
    """Values, interval ends, costs and comparisons as `subject/metric`."""
    flat: dict[str, object] = {}
    for name in ("candidate", "champion", "general"):
        subject = evaluation.get(name) or {}
        for metric, found in (subject.get("metrics") or {}).items():
            flat |= {f"{name}/{metric}": found.get("value")}
            flat |= {f"{name}/{metric}_{end}": found.get(end) for end in ("low", "high")}
        flat |= {f"{name}/latency_ms_{key}": value for key, value in (subject.get("latency_ms") or {}).items()}
        flat |= {f"{name}/{key}": subject.get(key) for key in ("size_mb", "memory_mb", "parameters")}
    for name, found in (evaluation.get("comparison") or {}).items():
        flat |= {f"against_{name}/{key}": (found or {}).get(key) for key in ("difference", "low", "high", "p_value")}
    return _numbers(flat)


def of_details(details: Json) -> dict[str, float]:
    """Of details.json: the ways compared as `ways/name_figure`, the learning curve, behaviour tests, doubtful rows."""
    decision, behaviour, insight = (details.get(name) or {} for name in ("decision", "behaviour", "insight"))
    wanted = ("quality", "p99_ms", "per_1000", "per_month", "training_cpu_seconds")
    flat = {f"ways/{row['name']}_{key}": row.get(key) for row in decision.get("rows", []) for key in wanted}
    flat |= {f"learning_curve/{point['share']:g}": point["value"] for point in decision.get("curve", [])}
    flat |= {f"behaviour/{name}_robustness": rate for name, rate in (behaviour.get("robustness") or {}).items()}
    for test in behaviour.get("tests", []):
        shown = FOREIGN.sub("_", test["name"])[:150]
        flat |= {f"behaviour/{name} {shown}": part["rate"] for name, part in test.get("subjects", {}).items()}
    errors, twins = insight.get("errors") or {}, insight.get("duplicates") or {}
    flat |= {"insight/suspected_share": errors.get("share"), "insight/suspected": errors.get("flagged")}
    return _numbers({**flat, "insight/disagreeing_near_duplicates": twins.get("pairs")})


def of_training(training: Json) -> dict[str, Figure]:
    """Of training.json: curves by optimizer step, and single figures, called `final_` where there is a curve."""
    rows = training.get("curves") or []
    names = sorted({name for row in rows for name in row if name != "step"})
    curves = {name: [(int(row["step"]), float(row[name])) for row in rows if name in row] for name in names}
    costs = {name: training.get(name) for name in ("seconds", "cpu_seconds")}
    single = _numbers({**(training.get("metrics") or {}), **costs})
    found: dict[str, Figure] = {f"training/{name}": curve for name, curve in curves.items()}
    return found | {f"training/{'final_' * (name in curves)}{name}": value for name, value in single.items()}


def _numbers(flat: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in flat.items() if isinstance(value, int | float)}
