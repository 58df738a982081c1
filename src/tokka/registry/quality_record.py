"""What a run shows of behaviour tests and of the data's doubtful rows, beside the metrics of the evaluation.

figures(evidence)["behaviour/candidate_robustness"]
"""

import re
from pathlib import Path
from typing import Any

from tokka import files

# What MLflow takes in the name of a metric; a test's name is the user's own.
FOREIGN = re.compile(r"[^\w\-. /]+", re.ASCII)


def figures(evidence: Path) -> dict[str, float]:
    """Metrics of details.behaviour and details.insight, those that were computed; {} without details.json."""
    path = evidence / "details.json"
    details = files.read_json(path) if path.is_file() else {}
    found = _behaviour(details.get("behaviour") or {}) | _insight(details.get("insight") or {})
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _behaviour(found: dict[str, Any]) -> dict[str, Any]:
    flat = {f"behaviour/{name}_robustness": value for name, value in (found.get("robustness") or {}).items()}
    for test in found.get("tests", []):
        for name, part in test.get("subjects", {}).items():
            flat[f"behaviour/{name} {FOREIGN.sub('_', test['name'])[:150]}"] = part["rate"]
    return flat


def _insight(found: dict[str, Any]) -> dict[str, Any]:
    errors, twins = found.get("errors") or {}, found.get("duplicates") or {}
    return {
        "insight/suspected_share": errors.get("share"),
        "insight/suspected": errors.get("flagged"),
        "insight/disagreeing_near_duplicates": twins.get("pairs"),
    }
