"""close: the last task of a run, whatever happened to it: nothing stays locked, no attempt stays open."""

from tokka import progress
from tokka.files import JsonObject
from tokka.settings import Settings

SUCCEEDED = "SUCCEEDED"


@progress.step("close")
def run(settings: Settings, job: str, status: str) -> JsonObject:
    """Give free what `job` (TOKKA_JOB, where that is set) holds; returns how many claims, attempts and wishes it were.

    `status` is Kubeflow's word for the run; a run that was terminated may still be said to be RUNNING: whatever has not
    succeeded has failed. TokkaError when the record does not answer; its lease runs out then.
    """
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.connection import RecordDatabase
    from tokka.deployment.record.leases import Leases

    record = RecordDatabase(settings.record_url, patience_s=PATIENCE_S)
    closed: JsonObject = {**Leases(record).end(settings.job or job, succeeded=status == SUCCEEDED)}
    progress.result("close", **closed)
    return closed
