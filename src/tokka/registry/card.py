"""The model card: what a version is, what it was measured at and against what, where it fails, and what made it.

What is not known is called unknown, never left out.
"""

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files as package_files

import jinja2

from tokka.data.preparation import dropped
from tokka.registry.entities import Json, number, part, rows

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
    forecast: Json | None = None,
    cause: Json | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """The card in Markdown.

    From evaluation.json, the gate's decision (`verdict`, `rules`, `reasons`), commit, digests and environment, and
    details.json as far as it was completed. `override` says who or what let it past a gate that refused; `forecast` is
    that of deployment/review/forecast.py; `cause` says who or what asked for the retraining, when (seconds since 1970)
    and why; `links` are name and address.
    """
    subjects = [part(evaluation, name) for name in ("candidate", "champion", "general")]
    sign = 1 if evaluation.get("higher_is_better", True) else -1
    slices = sorted(rows(subjects[0], "slices"), key=lambda one: sign * number(part(one, "metric"), "value"))
    # Params and dvc.lock belong to the provenance and not on a page: they lie beside the card.
    short = [(name, value) for name, value in sorted(provenance.items()) if not isinstance(value, Mapping)]
    became = part(part(part(provenance, "params"), "data"), "labels")
    return _template().render(
        evaluation=evaluation,
        decision=decision,
        provenance=provenance,
        model=model,
        synthetic=synthetic,
        override=override,
        measured=sorted({metric for subject in subjects for metric in part(subject, "metrics")}),
        compared=[(name, found) for name, found in part(evaluation, "comparison").items() if found],
        slices=slices,
        worst=WORST_SLICES,
        details=details or {},
        forecast=forecast or {},
        cause=cause or {},
        links=list(links),
        labels="; ".join(f"{old} → {new or 'retired'}" for old, new in sorted(became.items())),
        left_out="; ".join(f"{name}: {words}" for name, words in dropped.in_words(part(details or {}, "dropped"))),
        made_of=[(name, value) for name, value in short if "\n" not in str(value).strip()],
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": _cell, "interval": _interval, "number": _number, "hours": hours, "when": _when}
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


def is_synthetic(provenance: Json) -> bool:
    """Whether the data was Tokka's generated sample."""
    return str(provenance.get("synthetic", "")).lower() == "true"


def hours(value: object) -> str:
    """A time in hours as people say it; "never" for none."""
    if not isinstance(value, int | float):
        return "never"
    for unit, size in (("days", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if value >= size * (2.0 if unit == "days" else 1.0):
            return f"{value / size:.2g} {unit}" if value / size < 10 else f"{value / size:.0f} {unit}"
    return "under 1 min"


def _when(value: object) -> str:
    if not isinstance(value, int | float):
        return "an unknown time"
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _number(value: object, unit: str = "") -> str:
    if not isinstance(value, int | float):
        return UNKNOWN
    return f"{value:{',' if isinstance(value, int) else ',.4g'}} {unit}".strip()
