"""What a run shows as MLflow metrics: of the evaluation, of what was examined beside it, and of the training.

of_evidence(evidence)      # {"candidate/accuracy": 0.94, "training/train_loss": [(120, 0.42), …], …}
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypedDict

from tokka import files
from tokka.data.preparation import dropped
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.registry.entities import Figure, Json, part, rows

TRAINING = "training.json"
KEPT = ("metrics", "curves", "seconds", "cpu_seconds", "precision", "threads", "base", "digest", "training_reused")
# What MLflow does not take in the name of a metric; a behaviour test's name is the user's own.
FOREIGN = re.compile(r"[^\w\-. /]+", re.ASCII)


class Training(TypedDict, total=False):
    """The outcome of a fine-tuning; `curves` has one entry per epoch, each with `step`."""

    digest: str
    metrics: dict[str, float]
    curves: list[dict[str, float]]
    seconds: float
    cpu_seconds: float


def find_training(home: Path, digest: str) -> Training | None:
    """The outcome of the fine-tuning that made the model with this digest; None when it was trained elsewhere.

    Not in the model folder: the same weights must have the same digest, however long they took.
    """
    for path in [_brought(home, digest), *sorted((home / "store" / "finetune").glob("*/outcome.json"))]:
        try:
            outcome: Training = files.read_json(path)
        except TokkaError:
            continue
        if isinstance(outcome, dict) and outcome.get("digest") == digest:
            return outcome
    return None


def bring_training(home: Path, outcome: Path) -> None:
    """Let `find_training` find what another machine's fine-tuning has written, as in a pod, whose home is empty."""
    found: Training = files.read_json(outcome)
    files.write_json(_brought(home, found["digest"]), found)


def _brought(home: Path, digest: str) -> Path:
    return home / "trainings" / f"{digest}.json"


def write_training(home: Path, digest: str, evidence: Path) -> bool:
    """Put the finetune outcome of the model with this digest into the evidence; False when it was trained elsewhere."""
    outcome = find_training(home, digest)
    if outcome is not None:
        files.write_json(evidence / TRAINING, {name: found for name, found in outcome.items() if name in KEPT})
    return outcome is not None


def of_evidence(evidence: Path) -> dict[str, Figure]:
    """Everything that an evidence folder holds as metrics; details.json and training.json may lack."""
    evaluation = of_evaluation(files.read_json(evidence / "evaluation.json"))
    training: Training = files.read_json(evidence / TRAINING) if (evidence / TRAINING).is_file() else {}
    return {**evaluation, **of_details(read_optional(evidence / "details.json")), **of_training(training)}


def read_optional(path: Path) -> Json:
    """The JSON object of a file; empty when there is none."""
    return dict(files.read_json(path)) if path.is_file() else {}


def of_evaluation(evaluation: Json) -> dict[str, float]:
    """Values, interval ends, costs and comparisons as `subject/metric`."""
    flat: dict[str, object] = {}
    for name in ("candidate", "champion", "general"):
        subject = part(evaluation, name)
        for metric in (measured := part(subject, "metrics")):
            found = part(measured, metric)
            flat |= {f"{name}/{metric}": found.get("value")}
            flat |= {f"{name}/{metric}_{end}": found.get(end) for end in ("low", "high")}
        flat |= {f"{name}/latency_ms_{key}": value for key, value in part(subject, "latency_ms").items()}
        flat |= {f"{name}/{key}": subject.get(key) for key in ("size_mb", "memory_mb", "parameters")}
    for name in (compared := part(evaluation, "comparison")):
        found = part(compared, name)
        flat |= {f"against_{name}/{key}": found.get(key) for key in ("difference", "low", "high", "p_value")}
    return _numbers(flat)


def of_details(details: Json) -> dict[str, float]:
    """Of details.json: the ways compared as `ways/name_figure`, the learning curve, behaviour tests, doubtful rows."""
    decision, behaviour, insight = (part(details, name) for name in ("decision", "behaviour", "insight"))
    wanted = ("quality", "p99_ms", "per_1000", "per_month", "training_cpu_seconds")
    flat = {f"ways/{row['name']}_{key}": row.get(key) for row in rows(decision, "rows") for key in wanted}
    flat |= {f"learning_curve/{point['share']:g}": point["value"] for point in rows(decision, "curve")}
    flat |= {f"behaviour/{name}_robustness": rate for name, rate in part(behaviour, "robustness").items()}
    for test in rows(behaviour, "tests"):
        shown, subjects = FOREIGN.sub("_", str(test["name"]))[:150], part(test, "subjects")
        flat |= {f"behaviour/{name} {shown}": part(subjects, name).get("rate") for name in subjects}
    errors, twins = part(insight, "errors"), part(insight, "duplicates")
    flat |= (
        {f"data/{name}": count for name, count in dropped.figures(left_out)}
        if (left_out := part(details, "dropped"))
        else {}
    )
    flat |= {"insight/suspected_share": errors.get("share"), "insight/suspected": errors.get("flagged")}
    return _numbers({**flat, "insight/disagreeing_near_duplicates": twins.get("pairs")})


def of_training(training: Training) -> dict[str, Figure]:
    """Of training.json: curves by optimizer step, and single figures, called `final_` where there is a curve."""
    epochs = training.get("curves") or []
    names = sorted({name for epoch in epochs for name in epoch if name != "step"})
    curves = {name: [(int(one["step"]), float(one[name])) for one in epochs if name in one] for name in names}
    costs = {"seconds": training.get("seconds"), "cpu_seconds": training.get("cpu_seconds")}
    single = _numbers({**(training.get("metrics") or {}), **costs})
    found: dict[str, Figure] = {f"training/{name}": curve for name, curve in curves.items()}
    return found | {f"training/{'final_' * (name in curves)}{name}": value for name, value in single.items()}


def _numbers(flat: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in flat.items() if isinstance(value, int | float)}


def flat_params(params: Params, sections: Collection[str]) -> dict[str, str]:
    """The tunables of these sections as `section/key`: the prefix keeps them apart from what kfp's launcher logs."""
    flat: dict[str, str] = {}
    for section, values in params.model_dump(mode="json", include=set(sections)).items():
        for key, value in values.items():
            nested = value.items() if isinstance(value, dict) else [("", value)]
            flat |= {f"{section}/{key}{'.' if name else ''}{name}": str(leaf) for name, leaf in nested}
    return flat
