"""refuse: the last task of a run that was refused: it says why, gives back what the run held, and makes it red."""

from tokka import files, progress
from tokka.errors import Refused, TokkaError
from tokka.files import JsonObject, Tree
from tokka.settings import Settings

# Whom a refusal of data concerns; it decides nothing.
ENDPOINT = "endpoint"


def run(by: str, reasons: str, settings: Settings, job: str = "", inputs: Tree | None = None) -> int:
    """Print the reasons of the step `by`, one in each line, and return the exit code of a refusal.

    What `job` (TOKKA_JOB, where that is set) held is free from then on. `inputs`: what validate_data was told, where
    that step has refused: the same rows under the same rules are refused by preflight from then on.
    """
    first, *more = reasons.splitlines() or ["no reason was given"]
    error = Refused(f"{by}: {first}", "\n".join(more))
    try:
        _close(settings, settings.job or job, {"verdict": "refuse", "reasons": [first, *more]}, inputs)
    except TokkaError as away:  # the run stays refused; its lease runs out
        progress.report("refuse", f"nothing was given back: {away.message}")
    progress.refused(by, first, error.hint)
    return error.report()


def data_key(inputs: Tree) -> str:
    """Under which a refusal of data is remembered: what validate_data was told, with the digests of rows and code."""
    told = {name: value for name, value in inputs.items() if name != ENDPOINT}
    return f"data-{files.digest_json(told)[:32]}"


def _close(settings: Settings, job: str, verdict: JsonObject, inputs: Tree | None) -> None:
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.claims import Claims
    from tokka.deployment.record.connection import RecordDatabase
    from tokka.deployment.record.leases import Leases
    from tokka.notifications import Event, emit

    record = RecordDatabase(settings.record_url, patience_s=PATIENCE_S)
    if inputs:
        key = data_key(inputs)
        Claims(record).conclude(key, job, {"data": verdict})
        what = "The data is refused; nothing is trained on it."
        event = Event("refused", str(inputs.get(ENDPOINT, "")), key, what, verdict["reasons"])
        record.transact(lambda connection: emit(event, connection))
    if job:
        Leases(record).end(job, succeeded=False, outcome="refused")
