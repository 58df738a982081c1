"""What the daemon needs MLflow for, as a process beside it: importing MLflow takes seconds, so it stays.

    python -m tokka.stack.sync_registry

It shows the record's champion, challenger and previous as the registry's aliases, at once after each change and again
and again, so that what somebody else wrote there does not stay; says of a version what became of it when its rollout
could not; and fetches the model folders that the record names and this machine lacks.
"""

import sys
import time

from tokka.deployment.reconcile import keep_aliases, show_last_verdict
from tokka.deployment.record.record import Record
from tokka.deployment.registry import Registry
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.processes.supervisor import supervise
from tokka.settings import Settings
from tokka.stack import state_file

POLL_SECONDS = 0.5
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
    generation, due = -1, 0.0
    while True:
        try:
            found = record.read(params.registry.model).generation
            if found != generation or time.monotonic() >= due:
                generation, due = found, time.monotonic() + REPAIR_SECONDS
                bring_in_line(record, registry, params, settings)
        except TokkaError as error:
            error.report()
        time.sleep(POLL_SECONDS)


def bring_in_line(record: Record, registry: Registry, params: Params, settings: Settings) -> None:
    """Do it once.

    Raises:
        TokkaError: the record or the registry does not answer.
        Refused: a model in the registry is not what was signed.
    """
    from tokka.registry.publish import fetch_version

    endpoint = params.registry.model
    # The verdict first: a version without one may keep the alias `challenger`.
    show_last_verdict(record, endpoint, registry)
    keep_aliases(record, endpoint, registry)
    state = record.read(endpoint)
    for revision in (state.champion, state.challenger, state.previous):
        if revision is not None and not (settings.home / "models" / revision.digest).is_dir():
            fetch_version(revision.version, params, settings)


if __name__ == "__main__":
    sys.exit(main())
