"""The rows of an answer of any shape, as a message of a result holds them.

predictions_of({"prediction_id": "…", "model_version": "3", "canary": False, "label": "card", "score": 0.9})
"""

from collections.abc import Mapping, Sequence
from typing import Any

_FIELDS = ("prediction_id", "model_version", "canary", "label", "score", "value", "top")


def predictions_of(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of an answer: of /predict with one text or several, or of the v2 protocol."""
    if "outputs" not in answer:
        rows = answer.get("predictions", [answer])
        return [{name: row.get(name) for name in _FIELDS} for row in rows]
    columns = {output["name"]: _by_row(output) for output in answer["outputs"]}
    # Where the outputs are a choice, a prediction may be without its id.
    fixed = {**dict.fromkeys(_FIELDS), "prediction_id": "", "model_version": str(answer.get("model_version", "")),
             "canary": bool((answer.get("parameters") or {}).get("canary", False))}  # fmt: skip
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{**fixed, **_with_top(row)} for row in rows]


def _by_row(output: Mapping[str, Any]) -> Sequence[Any]:
    """A tensor's values, one entry per row: the protocol lays a matrix out flat."""
    data, shape = output["data"], output.get("shape", ())
    if len(shape) < 2:
        return list(data)
    return [data[start : start + shape[1]] for start in range(0, len(data), shape[1])]


def _with_top(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose classes and their scores, two tensors of the protocol, are one list."""
    labels, scores = row.get("top_labels"), row.get("top_scores")
    found = {name: value for name, value in row.items() if name not in ("top_labels", "top_scores")}
    if labels is not None and scores is not None:
        found["top"] = [{"label": label, "score": score} for label, score in zip(labels, scores, strict=True)]
    return found
