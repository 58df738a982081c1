"""The request log's upkeep, as a process of its own that ends when it is done: seal, archive, delete what is old.

    python -m tokka.stack.archive_log

Nothing is deleted while a rollout or a retraining is under way: the judge reads the log from the rollout's start, the
retraining reads its labels from it.
"""

import socket
import sys
import time

from tokka.deployment.record.attempts import Attempts, oldest_deletable
from tokka.deployment.record.record import Record
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.request_log.segments import GIGABYTE
from tokka.settings import Settings
from tokka.stack import state_file


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
    """Seal what nobody writes, archive it, delete what is too old or too much, and not needed; how many segments each.

    Raises TokkaError when the archive or the record does not answer; then nothing is deleted.
    """
    from tokka.request_log import archive, parquet

    folder = settings.home / "requests"
    sealed = parquet.seal_all(folder, now)
    archive.send(settings, host=socket.gethostname())
    record, endpoint = Record(settings.record_url), params.registry.model
    state, attempts = record.read(endpoint), Attempts(record).all(endpoint)
    oldest = oldest_deletable(state, attempts, days=params.monitoring.retention_days, now=now)
    if oldest is None:
        return sealed, 0
    most = params.monitoring.retention_gb * GIGABYTE
    return sealed, parquet.delete_before(folder, oldest) + parquet.delete_beyond(folder, most)


if __name__ == "__main__":
    sys.exit(main())
