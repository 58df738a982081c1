"""`tokka compare`: what a change would come to, on a slice of the data, as a table for whoever reviews it.

It validates all rows, trains on some, evaluates against the champion and the un-tuned model, and asks the gate; it
registers nothing, rolls nothing out and writes to no server. Small data makes wide intervals, which the table shows.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from tokka.errors import Refused
from tokka.files import JsonObject, Tree
from tokka.params import Params
from tokka.settings import Settings

# By which a comment is found again, to be replaced by its successor.
MARK = "<!-- tokka compare -->"
SHOWN_SLICES, LONGEST_CELL = 12, 80
SUBJECTS = ("candidate", "champion", "general")
TITLES = {"candidate": "candidate", "general": "un-tuned model"}


class Compared(BaseModel):
    """The evaluation and the gate's answer; `refused`: why the data was refused, before there was either."""

    evaluation: JsonObject
    verdict: str
    reasons: list[str]
    refused: str = ""


def compare(params: Params, settings: Settings, rows: int, folder: Path) -> Compared:
    """Make and judge a candidate in `folder`, of `rows` rows evenly out of all valid ones (0: all of them).

    TokkaError when a step fails.
    """
    from tokka.evaluation.evaluate import evaluate
    from tokka.evaluation.gate.gate import decide
    from tokka.evaluation.recompute import look
    from tokka.runs.dvc_stages import STAGES
    from tokka.steps.evaluate import find_champion

    evidence = folder / "build" / "evidence"
    try:
        STAGES["validate_data"](params, settings, folder)
    except Refused as error:
        return Compared(evaluation={}, verdict="refuse", reasons=[error.message], refused=error.message)
    if rows:
        take(folder / "build" / "rows" / "rows.parquet", rows)
    for stage in ("preprocess", "finetune"):
        STAGES[stage](params, settings, folder)
    shutil.rmtree(evidence, ignore_errors=True)
    evidence.mkdir(parents=True)
    prepared, model = folder / "build" / "prepared", folder / "build" / "model"
    evaluation = evaluate(prepared, model, find_champion(params, settings), params, evidence)
    decision = decide(evaluation, params, look(evidence, evaluation, params))
    return Compared(evaluation=evaluation, verdict=decision.verdict, reasons=list(decision.reasons))


def take(path: Path, count: int) -> None:
    """Leave `count` rows of a table, evenly out of it, so that each time of its data is in them."""
    import numpy as np

    from tokka.data import rows

    table = rows.load(path)
    if table.num_rows > count:
        rows.write(path, table.take(np.linspace(0, table.num_rows - 1, count).astype(int)))


def markdown(found: Compared, *, changes: Sequence[str], commit: str, rows: int, key: str = "") -> str:
    """The comment: verdict, what changed, metrics with intervals, slices, reasons; what data says is escaped."""
    passed = found.verdict == "pass"
    sample = f"{rows} rows" if rows else "all rows"
    head = f"## {'The gate would pass it' if passed else 'The gate would refuse it'}"
    about = [f"Commit `{commit[:12]}`, trained on {sample} to see what it would come to; nothing was registered."]
    about += ["", "**Changed:** " + ("; ".join(map(cell, changes)) or "nothing that a training follows from")]
    parts = [MARK, head, "", *about, ""]
    if not found.refused:
        parts += [*metrics(found.evaluation), "", *slices(found.evaluation)]
    parts += ["**Why:**", "", *(f"- {cell(reason, 400)}" for reason in found.reasons)]
    return "\n".join([*parts, "", *([f"<sub>content key `{key}`</sub>"] if key else [])]) + "\n"


def metrics(evaluation: Tree) -> Iterator[str]:
    """A row a metric, a column a model, each value with its interval."""
    shown = [name for name in SUBJECTS if evaluation.get(name)]
    names = evaluation["candidate"]["metrics"]
    titles = {**TITLES, "champion": f"champion {(evaluation.get('champion') or {}).get('version', '')}".strip()}
    yield "| | " + " | ".join(titles[name] for name in shown) + " |"
    yield "|---|" + "---:|" * len(shown)
    for metric in names:
        yield (
            f"| {cell(metric)} | "
            + " | ".join(_bounds(evaluation[name]["metrics"].get(metric)) for name in shown)
            + " |"
        )
    for title, place, digits in (("latency p99, ms", ("latency_ms", "p99"), 1), ("size, MB", ("size_mb",), 1)):
        yield f"| {title} | " + " | ".join(_number(evaluation[name], place, digits) for name in shown) + " |"


def slices(evaluation: Tree) -> Iterator[str]:
    """The candidate against the champion on each slice, the worst first; nothing without a champion."""
    compared = (evaluation.get("comparisons") or {}).get("champion")
    if not compared or not compared["slices"]:
        return
    yield "<details><summary>Against the champion, by slice</summary>"
    yield ""
    yield "| slice | rows | difference |"
    yield "|---|---:|---:|"
    for one in sorted(compared["slices"], key=lambda one: float(one["low"]))[:SHOWN_SLICES]:
        bounds = f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
        yield f"| {cell(one['slice'])} = {cell(one['value'])} | {one['rows']} | {bounds} |"
    yield ""
    yield "</details>"
    yield ""


def cell(text: object, longest: int = LONGEST_CELL) -> str:
    """A text out of data or files, which then is neither markup nor a mention of somebody."""
    flat = " ".join(str(text).split())[:longest]
    escaped = re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", flat).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("@", "@\N{ZERO WIDTH SPACE}")


def _bounds(found: Mapping[str, float] | None) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else "n/a"


def _number(subject: Tree, place: Sequence[str], digits: int) -> str:
    value: object = subject
    for name in place:
        value = value[name] if isinstance(value, Mapping) and name in value else None
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "n/a"
