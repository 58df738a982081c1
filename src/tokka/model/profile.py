"""What `export.profile` decides for every step: the length of texts, the served form, and the budgets of the gate.

One place, so that a model of the edge profile is trained, calibrated, measured and served on texts of one length.
"""

from dataclasses import dataclass

from tokka.errors import UsageError
from tokka.params import Params


@dataclass(frozen=True)
class Budgets:
    """What the gate allows at most: p99 latency at batch 1 in ms, size in MB of 10^6 bytes; `source` names the keys."""

    latency_ms: float
    size_mb: float
    source: str


def max_tokens(params: Params) -> int:
    """The length to which texts are cut, in training, in the exported model and when it serves."""
    edge, asked = params.export.edge.max_tokens, params.model.max_tokens
    return min(asked, edge) if params.export.profile == "edge" else asked


def budgets(params: Params) -> Budgets:
    """The budgets that hold: those of `export.edge` for the edge profile, else those of `evaluation`."""
    edge = params.export.edge
    if params.export.profile == "edge":
        return Budgets(edge.latency_budget_ms, edge.size_budget_mb, "export.edge")
    return Budgets(params.evaluation.latency_budget_ms, params.evaluation.size_budget_mb, "evaluation")


def check_export(params: Params) -> None:
    """Refuse a served form that would not exist, or that contradicts the profile, before a training is spent on it."""
    export = params.export
    if export.profile == "edge" and export.serve != "int8":
        raise UsageError(
            f"export.profile = edge serves int8, export.serve is {export.serve}",
            "set export.serve: int8, or export.profile: standard",
        )
    if export.serve != "torch" and not export.onnx:
        raise UsageError(f"export.serve = {export.serve} needs export.onnx", "set export.onnx: true or serve: torch")
    if export.serve == "int8" and not export.int8:
        raise UsageError("export.serve = int8 needs export.int8", "set export.int8: true or serve: fp32")


def describe(params: Params) -> str:
    """The profile in one line, for card and report."""
    held = budgets(params)
    return (
        f"{params.export.profile}: texts of up to {max_tokens(params)} tokens, "
        f"at most {held.latency_ms:g} ms (p99) and {held.size_mb:g} MB, by {held.source}"
    )
