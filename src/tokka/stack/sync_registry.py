"""What the stack needs MLflow for, as a process beside the daemon: importing MLflow takes seconds, so it stays.

    python -m tokka.stack.sync_registry

It shows the record's champion, challenger and previous as the registry's aliases, at once after each change, and again
when somebody else has written there; starts the rollout of what was approved; says of a version what became of it when
its rollout could not; and fetches the model folders that the record names and this machine lacks.
"""

import sys
import time
from pathlib import Path

from tokka import files
from tokka.database import Commits
from tokka.deployment.reconcile import keep_aliases, lost_versions, show_last_verdict
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.deployment.registry import Registry
from tokka.deployment.review.acting import Reviews
from tokka.deployment.review.admission import SignedAdmission
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.processes.supervisor import supervise
from tokka.settings import Settings
from tokka.stack import state_file
from tokka.stack.state_file import LOST

# From one look at a SQLite file's stamp to the next, and from one question to a server to the next.
WATCH_SECONDS, ASK_SECONDS = 0.5, 1.0
# What was not done, or what somebody else changed, is mended so often at most.
REPAIR_SECONDS = 5.0


def main() -> int:
    """Do it until somebody ends this process."""
    settings = Settings.from_environment()
    params = state_file.read_params(settings)
    # Here, so that a child that is killed costs no second import.
    from tokka.registry.connection import import_mlflow

    import_mlflow()
    return supervise("upkeep", lambda supervisor: work(params, settings))


def work(params: Params, settings: Settings) -> int:
    """Look again and again."""
    from tokka.registry.publish import open_registry

    record, registry = Record(settings.record_url), open_registry(params, settings)
    written, tagged = Commits(settings.record_url), Commits(settings.tracking_uri)
    known, due, reviews = None, 0.0, Reviews(record, registry, params, settings)
    while True:
        try:
            if late := time.monotonic() >= due:
                due = time.monotonic() + REPAIR_SECONDS
            if _has_moved(record, written, known, params) or (late and _needs_repair(known, tagged, settings)):
                written.mark()
                tagged.mark()
                known = None
                known = bring_in_line(record, registry, params, settings)
            reviews.look(late=late)
        except TokkaError as error:
            error.report()
        reviews.wait(WATCH_SECONDS if written.is_watchable else ASK_SECONDS)


def bring_in_line(record: Record, registry: Registry, params: Params, settings: Settings) -> State:
    """Do it once; the state of the record that is shown now.

    Raises TokkaError when the record or the registry does not answer, or a model is not what was signed.
    """
    endpoint = params.registry.model
    # The verdict first: a version without one may keep the alias `challenger`.
    show_last_verdict(record, endpoint, registry)
    keep_aliases(record, endpoint, registry)
    state = record.read(endpoint)
    files.write_json(settings.home / "stack" / LOST, lost_versions(state, registry))
    for version, folder in _models(state, settings).items():
        if not folder.is_dir():
            SignedAdmission(record, params, settings).served(version, folder.name)
    return state


def _has_moved(record: Record, written: Commits, known: State | None, params: Params) -> bool:
    if written.is_watchable:
        return written.seen()
    return known is not None and record.read(params.registry.model).generation != known.generation


def _needs_repair(known: State | None, tagged: Commits, settings: Settings) -> bool:
    """Whether the last attempt failed, somebody has written to the registry (or may have), or a model is missing."""
    if known is None or tagged.seen() or not tagged.is_watchable:
        return True
    return not all(folder.is_dir() for folder in _models(known, settings).values())


def _models(state: State, settings: Settings) -> dict[str, Path]:
    """Version to model folder of everyone in the record."""
    named = (state.champion, state.challenger, state.previous)
    return {one.version: settings.home / "models" / one.digest for one in named if one is not None}


if __name__ == "__main__":
    sys.exit(main())
