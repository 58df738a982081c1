"""The model card: what a version is, what it was measured at and against what, where it fails, and what made it.

    text = model_card(evaluation, decision, provenance, model="helpdesk", synthetic=False)

Pure: Markdown from three plain values. What is not known is called unknown, never left out.
"""

from collections.abc import Mapping
from importlib.resources import files as package_files

import jinja2

from tokka.registry.entities import Json

WORST_SLICES = 12
UNKNOWN = "not measured"


def model_card(
    evaluation: Json,
    decision: Json,
    provenance: Json,
    *,
    model: str = "model",
    synthetic: bool = False,
    override: str = "",
    details: Json | None = None,
) -> str:
    """The card in Markdown.

    Args:
        evaluation: evaluation.json as evaluate wrote it.
        decision: the gate's decision (`verdict`, `rules`, `reasons`).
        provenance: commit, digests and environment.
        model: the registered model's name.
        synthetic: the data was Tokka's own sample.
        override: who or what let it past a gate that refused; empty when the gate passed it.
        details: details.json, as far as it was completed.
    """
    subjects = [evaluation.get(name) or {} for name in ("candidate", "champion", "general")]
    sign = 1 if evaluation.get("higher_is_better", True) else -1
    slices = sorted(
        subjects[0].get("slices") or [], key=lambda one: sign * float((one.get("metric") or {}).get("value") or 0.0)
    )
    # Params and dvc.lock belong to the provenance and not on a page: they lie beside the card.
    short = [(name, value) for name, value in sorted(provenance.items()) if not isinstance(value, Mapping)]
    return _template().render(
        evaluation=evaluation,
        decision=decision,
        provenance=provenance,
        model=model,
        synthetic=synthetic,
        override=override,
        measured=sorted({metric for subject in subjects for metric in subject.get("metrics") or {}}),
        compared=[(name, found) for name, found in (evaluation.get("comparison") or {}).items() if found],
        slices=slices,
        worst=WORST_SLICES,
        details=details or {},
        made_of=[(name, value) for name, value in short if "\n" not in str(value).strip()],
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": _cell, "interval": _interval, "number": _number}
    source = package_files("tokka.registry").joinpath("card.md.jinja").read_text(encoding="utf-8")
    return environment.from_string(source)


def _cell(value: object) -> str:
    """Text that cannot break out of its cell; `|` and line ends would."""
    return " ".join(str("" if value is None else value).split()).replace("|", "\\|").replace("<", "&lt;")


def _interval(found: object, sign: str = "") -> str:
    if not isinstance(found, Mapping) or not isinstance(found.get("value"), int | float):
        return UNKNOWN
    low, high = found.get("low"), found.get("high")
    middle = f"{found['value']:{sign}.4f}"
    known = isinstance(low, int | float) and isinstance(high, int | float)
    return f"{middle} [{low:{sign}.4f}, {high:{sign}.4f}]" if known else middle


def _number(value: object, unit: str = "") -> str:
    if not isinstance(value, int | float):
        return UNKNOWN
    return f"{value:{',' if isinstance(value, int) else ',.4g'}} {unit}".strip()
