"""The labels that the judge of a shadow wants: unjudged disagreements of champion and challenger.

People answer them through `tokka review labels`, as feedback: in the order in which they stand, or not at all, since
leaving out what looks bad for one of them decides in the judge's place.
"""

import contextlib
import difflib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokka import files
from tokka.deployment import rollout_files
from tokka.deployment.inputs import RECENT_S
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.deployment.record.target import Answer
from tokka.deployment.shadow import Pair
from tokka.deployment.traffic_columns import bounded_caller
from tokka.errors import TokkaError, UsageError
from tokka.params import Params
from tokka.request_log import log
from tokka.settings import Settings

FILE = "disagreements.json"
SOURCE = "review"


def publish(home: Path, state: State, wanted: Sequence[Pair]) -> None:
    """Write down what is wanted now, when that has changed."""
    path = rollout_files.folder(home, state.rollout) / FILE
    found = [
        {"id": one.entry.prediction_id, "text": one.entry.text, "text_pair": one.entry.pair,
         "champion": _said(one.champion), "challenger": _said(one.challenger)}
        for one in wanted
    ]  # fmt: skip
    if (files.read_json(path) if path.is_file() else []) != found:
        files.write_json(path, found)


def read(settings: Settings, params: Params) -> list[dict[str, str]]:
    """What the judge wants to know now: id, text, text_pair, what champion and challenger said; empty when nothing."""
    state = Record(settings.record_url).read(params.registry.model)
    path = rollout_files.folder(settings.home, state.rollout) / FILE
    if state.phase != "shadow" or not path.is_file():
        return []
    records = log.read(settings.home / "requests", since=state.started - RECENT_S)
    # What a caller said whose word does not count in full keeps no question from the people who are asked.
    settled = [entry for entry in records if entry["kind"] == "feedback" and not bounded_caller(entry)]
    told = {entry["prediction_id"] for entry in settled}
    return [entry for entry in files.read_json(path) if entry["id"] not in told]


def answer(settings: Settings, params: Params, answers: Mapping[str, str], now: float | None = None) -> int:
    """Write answers {id, or the unique beginning of one: label or value} as feedback, all or none; how many.

    UsageError for an id that is not wanted, a label that neither model knows, or a value that is no number.
    """
    wanted, known = read(settings, params), known_labels(settings, params)
    facts = {"kind": "feedback", "time": time.time() if now is None else now, "source": SOURCE}
    records = [
        {**facts, "prediction_id": _identify(name, wanted), **_truth(said, known)} for name, said in answers.items()
    ]
    try:
        with contextlib.closing(log.Writer(settings.home / "requests", SOURCE)) as writer:
            writer.append(records)
    except OSError as error:
        raise TokkaError(f"the answers cannot be written: {error}", "is the disk full?") from None
    return len(records)


def known_labels(settings: Settings, params: Params) -> list[str] | None:
    """Every class that champion or challenger can name; None for values, empty when no model says."""
    if params.task.type == "regression":
        return None
    state = Record(settings.record_url).read(params.registry.model)
    revisions = [revision for revision in (state.champion, state.challenger) if revision]
    paths = [settings.home / "models" / revision.digest / "tokka.json" for revision in revisions]
    return sorted({label for path in paths if path.is_file() for label in files.read_json(path).get("labels", [])})


def _identify(name: str, wanted: Sequence[Mapping[str, str]]) -> str:
    found = [entry["id"] for entry in wanted if name and entry["id"].startswith(name)]
    if name in found or len(found) == 1:
        return name if name in found else found[0]
    problem = "stands for several" if found else "is none that a label is wanted for"
    raise UsageError(f"the id {name!r} {problem}", "`tokka review labels` lists them")


def _truth(said: str, known: Sequence[str] | None) -> dict[str, str | float]:
    if known is None:
        try:
            value = float(said)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{said!r} is no value", "answer with a number")
        return {"value": value}
    if known and said not in known:
        close = difflib.get_close_matches(said, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"they know: {', '.join(known[:20])}"
        raise UsageError(f"neither model knows the label {said!r}", hint)
    return {"label": said}


def _said(answer: Answer) -> str:
    return answer.label or ("" if answer.value is None else f"{answer.value:g}")
