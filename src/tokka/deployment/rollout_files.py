"""The files of a rollout: the last look with its e-values and thresholds, its params, what both versions answered.

They only show, but for the params: a full disk must not end a rollout.
"""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from tokka import files
from tokka.deployment.judge.phases import Action
from tokka.deployment.record.state import Decision, State
from tokka.deployment.record.target import Answer
from tokka.errors import TokkaError
from tokka.params import Params

FOLDER, FILE = "rollouts", "standing.json"
ANSWERS, SEEN, PARAMS = "answers.json", "predictions.json", "params.json"
LIMIT = "_limit"


class Look(Decision, total=False):
    """What was decided at a look; `since` when its state was written (seconds since 1970)."""

    endpoint: str
    since: float


def folder(home: Path, rollout: str) -> Path:
    """Where what belongs to one rollout lies."""
    return home / FOLDER / rollout


def write(home: Path, state: State, action: Action, now: float) -> None:
    """Replace the last look, without a sync."""
    found: Look = {**action.describe(state, now), "endpoint": state.endpoint, "time": now, "since": state.updated}
    with contextlib.suppress(OSError):
        files.write_bytes(home / FOLDER / FILE, json.dumps(found, allow_nan=False).encode(), sync=False)


def read(home: Path) -> Look | None:
    """The last look; None before the first."""
    with contextlib.suppress(TokkaError):
        if isinstance(found := files.read_json(home / FOLDER / FILE), dict):
            return cast(Look, found)
    return None


def write_params(home: Path, rollout: str, params: Params) -> None:
    """Keep what a rollout is judged by, for the process that goes on with it."""
    with contextlib.suppress(OSError):
        files.write_json(folder(home, rollout) / PARAMS, params.model_dump(mode="json"))


def read_params(home: Path, rollout: str) -> Params | None:
    """What `write_params` kept; None when it was not."""
    try:
        return Params.model_validate(files.read_json(folder(home, rollout) / PARAMS))
    except (TokkaError, ValidationError):
        return None


def write_answers(home: Path, state: State, answers: tuple[Sequence[Answer], Sequence[Answer]]) -> None:
    """Keep what champion and challenger said to the same inputs; see monitoring/rollout_view.py."""
    if state.champion is None or state.challenger is None:
        return
    names, plain = ("champion", "challenger"), {"label", "score", "value"}
    said = {name: [one.model_dump(include=plain) for one in side] for name, side in zip(names, answers, strict=True)}
    versions = {"champion": state.champion.version, "challenger": state.challenger.version}
    with contextlib.suppress(OSError, ValueError):
        path = folder(home, state.rollout) / ANSWERS
        files.write_json(path, {**versions, "started": state.started, "answers": said})


def has_unseen_answers(home: Path, state: State) -> bool:
    """Whether a rollout has ended whose answers were not compared yet."""
    place = folder(home, state.rollout)
    ended = bool(state.rollout) and state.phase == "idle"
    return ended and (place / ANSWERS).is_file() and not (place / SEEN).is_file()


def e_values(values: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Metric to (e-value, threshold), of everything in a judgement's values that has a threshold."""
    names = [name.removesuffix(LIMIT) for name in values if name.endswith(LIMIT)]
    return {name: (values[name], values[name + LIMIT]) for name in names if name in values}
