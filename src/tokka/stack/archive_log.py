"""The request log's upkeep, as a process of its own that ends when it is done: seal, and delete what is old.

    python -m tokka.stack.archive_log

Nothing is deleted while a rollout or a retraining is under way: the judge reads the log from the rollout's start, the
retraining reads its labels from it.
"""

import sys
import time
from collections.abc import Iterable

from tokka.deployment.record.record import Record
from tokka.deployment.record.retrainings import RUNNING, Attempts
from tokka.deployment.record.state import State
from tokka.errors import TokkaError
from tokka.monitoring.drift.policy import Attempt
from tokka.params import Params
from tokka.settings import Settings
from tokka.stack import state_file

DAY_SECONDS = 86_400.0
# An attempt that was never finished, by a crash, does not hold the log for ever.
LONGEST_RETRAINING_SECONDS = 7 * DAY_SECONDS


def main() -> int:
    """Do it once; the exit code is 0 when all of it was done."""
    settings = Settings.from_environment()
    try:
        tidy(state_file.read_params(settings), settings, time.time())
    except (TokkaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def tidy(params: Params, settings: Settings, now: float) -> tuple[int, int]:
    """Seal what nobody writes, delete what is too old and not needed; returns how many segments each.

    Raises:
        TokkaError: the record does not answer; then nothing is deleted.
    """
    from tokka.request_log import parquet

    folder = settings.home / "requests"
    sealed = parquet.seal_all(folder, now)
    state = Record(settings.record_url).read(params.registry.model)
    attempts = Attempts(settings.record_url).recent(params.registry.model)
    oldest = oldest_deletable(state, attempts, days=params.monitoring.retention_days, now=now)
    return sealed, 0 if oldest is None else parquet.delete_before(folder, oldest)


def oldest_deletable(
    state: State, attempts: Iterable[Attempt], *, days: float, now: float
) -> float | None:  # fmt: skip
    """Segments whose newest record is before this moment may go (seconds since 1970); None: nothing may."""
    running = any(
        attempt.outcome == RUNNING and now - attempt.time < LONGEST_RETRAINING_SECONDS for attempt in attempts
    )
    return None if running or state.phase != "idle" else now - days * DAY_SECONDS


if __name__ == "__main__":
    sys.exit(main())
