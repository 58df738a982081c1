"""The model card: what a version is, what it was measured at and against what, where it fails, and what made it.

    text = model_card(evaluation, decision, provenance, model="helpdesk", synthetic=False)

Pure: Markdown from three plain values. What is not known is called unknown, never left out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

SYNTHETIC_NOTE = (
    "> **Synthetic data.** This version was trained and measured on Tokka's generated sample, not on real messages. "
    "Its figures say that the pipeline works, not how well a model does on anybody's data.\n"
)
WORST_SLICES = 12
UNKNOWN = "not measured"


def model_card(
    evaluation: Mapping[str, Any],
    decision: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    model: str = "model",
    synthetic: bool = False,
    override: str = "",
) -> str:
    """The card in Markdown.

    Args:
        evaluation: evaluation.json as evaluate wrote it.
        decision: the gate's decision (`verdict`, `rules`, `reasons`).
        provenance: commit, digests and environment.
        model: the registered model's name.
        synthetic: the data was Tokka's own sample.
        override: who or what let it past a gate that refused; empty when the gate passed it.
    """
    candidate = evaluation.get("candidate") or {}
    parts = [
        f"# {model}: {evaluation.get('task', 'unknown task')}, "
        f"{evaluation.get('metric', 'metric')} {_headline(candidate, evaluation)}\n",
        SYNTHETIC_NOTE if synthetic else "",
        f"> **Registered past the gate**, for this reason: {_cell(override)}\n" if override else "",
        _what(evaluation, candidate, provenance),
        _measured(evaluation),
        _compared(evaluation),
        _slices(candidate, evaluation),
        _use(evaluation, candidate),
        _gate(decision),
        _made_of(provenance),
    ]
    return "\n".join(part for part in parts if part)


def _headline(candidate: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    return _interval((candidate.get("metrics") or {}).get(evaluation.get("metric")))


def _what(evaluation: Mapping[str, Any], candidate: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    test = evaluation.get("test") or {}
    rows = [
        ("Task", evaluation.get("task", "unknown")),
        ("Served form", candidate.get("form", "unknown")),
        ("Export profile", _profile(provenance)),
        ("Base model", provenance.get("base", provenance.get("base_digest", "unknown"))),
        ("Data digest", evaluation.get("data_digest") or provenance.get("data_digest", "unknown")),
        ("Test rows", f"{test.get('rows', 'unknown')} held out, digest {str(test.get('digest', 'unknown'))[:16]}"),
        ("Champion at that time", evaluation.get("champion_status", "unknown")),
    ]
    return _section("What it is", _table(("", ""), rows))


def _profile(provenance: Mapping[str, Any]) -> str:
    """The profile, and for edge the budgets and the length of texts that it holds the model to."""
    export = (provenance.get("params") or {}).get("export") or {}
    name, edge = str(export.get("profile", "unknown")), export.get("edge") or {}
    if name != "edge":
        return name
    return (
        f"edge: texts of up to {edge.get('max_tokens')} tokens, at most {edge.get('latency_budget_ms')} ms (p99) "
        f"and {edge.get('size_budget_mb')} MB"
    )


def _measured(evaluation: Mapping[str, Any]) -> str:
    subjects = [(name, evaluation.get(name) or {}) for name in ("candidate", "champion", "general")]
    names = sorted({metric for _, subject in subjects for metric in subject.get("metrics") or {}})
    rows = [(name, *(_interval((subject.get("metrics") or {}).get(name)) for _, subject in subjects)) for name in names]
    for label, key, unit in (
        ("size", "size_mb", "MB"),
        ("memory", "memory_mb", "MB"),
        ("parameters", "parameters", ""),
    ):
        rows.append((label, *(_number(subject.get(key), unit) for _, subject in subjects)))
    for percentile in ("p50", "p99"):
        values = [(subject.get("latency_ms") or {}).get(percentile) for _, subject in subjects]
        rows.append((f"latency {percentile}", *(_number(value, "ms") for value in values)))
    return _section(
        "Measured on the held-out test rows",
        "Value, and its interval in brackets.\n\n" + _table(("", "This version", "Champion", "General baseline"), rows),
    )


def _compared(evaluation: Mapping[str, Any]) -> str:
    rows = []
    for name, found in (evaluation.get("comparison") or {}).items():
        if found:
            spread = {"value": found.get("difference"), "low": found.get("low"), "high": found.get("high")}
            rows.append((name, found.get("metric", ""), _interval(spread, signed=True), _number(found.get("p_value"))))
    if not rows:
        return _section("Against others", "There was nothing to compare it with.\n")
    note = "Positive: this version is better, on the same rows.\n\n"
    return _section("Against others", note + _table(("Against", "Metric", "Difference", "p"), rows))


def _slices(candidate: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    found = list(candidate.get("slices") or [])
    if not found:
        return _section("Slices", "No slice was measured (`task.slices` is empty).\n")
    sign = 1 if evaluation.get("higher_is_better", True) else -1
    found.sort(key=lambda one: sign * float((one.get("metric") or {}).get("value") or 0.0))
    rows = [(f"{one['slice']} = {one['value']}", one.get("rows", ""), _interval(one.get("metric"))) for one in found]
    more = f"\n{len(rows) - WORST_SLICES} more in evaluation.json.\n" if len(rows) > WORST_SLICES else ""
    return _section("Slices, worst first", _table(("Slice", "Rows", "Value"), rows[:WORST_SLICES]) + more)


def _use(evaluation: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    task = evaluation.get("task", "the task")
    return _section(
        "Intended use and limits",
        f"Meant for {task} of texts like those it was trained on, behind an endpoint that logs and watches it. "
        "A score is a probability under the data that it has seen: texts of another kind get confident wrong answers. "
        "It knows no label that is not in its data. It was not examined for fairness beyond the slices above, nor "
        "for texts in other languages than its data's, nor hardened against inputs written to fool it. "
        "Not meant for decisions about people without a person who can overrule it.\n",
    )


def _gate(decision: Mapping[str, Any]) -> str:
    rows = [(rule.get("rule"), rule.get("verdict"), rule.get("reason")) for rule in decision.get("rules") or []]
    table = _table(("Rule", "Verdict", "Reason"), rows) if rows else "No decision was recorded.\n"
    return _section(f"Gate: {decision.get('verdict', 'never decided')}", table)


def _made_of(provenance: Mapping[str, Any]) -> str:
    # Params and dvc.lock belong to the provenance and not on a page: they lie beside the card.
    short = {name: value for name, value in provenance.items() if not isinstance(value, Mapping)}
    rows = [(name, value) for name, value in sorted(short.items()) if "\n" not in str(value).strip()]
    return _section("Made of", _table(("", ""), rows))


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    """Text that cannot break out of its cell; `|` and line ends would."""
    return " ".join(str("" if value is None else value).split()).replace("|", "\\|").replace("<", "&lt;")


def _interval(found: Any, signed: bool = False) -> str:
    if not isinstance(found, Mapping) or found.get("value") is None:
        return UNKNOWN
    form = "{:+.4f}" if signed else "{:.4f}"
    middle = form.format(found["value"])
    if found.get("low") is None or found.get("high") is None:
        return middle
    return f"{middle} [{form.format(found['low'])}, {form.format(found['high'])}]"


def _number(value: Any, unit: str = "") -> str:
    if value is None:
        return UNKNOWN
    return f"{float(value):,.4g} {unit}".strip() if not isinstance(value, int) else f"{value:,} {unit}".strip()
