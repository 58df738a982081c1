"""review: has somebody, or the rule of params.yaml, approved this version?"""

from typing import TYPE_CHECKING

from tokka import progress
from tokka.deployment.record.leases import renewed
from tokka.notifications import Event
from tokka.params import Params
from tokka.settings import Settings

if TYPE_CHECKING:
    from tokka.deployment.review.admission import Standing


@progress.step("review")
@renewed
def run(params: Params, settings: Settings, version: str) -> str:
    """Return approved, refused or waiting; a version without a verdict waits when `registry.review` is required.

    A run that waits for a person holds nothing meanwhile.
    """
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.attempts import Attempts
    from tokka.deployment.record.leases import Leases
    from tokka.deployment.record.record import Record
    from tokka.deployment.review.admission import SignedAdmission
    from tokka.notifications.delivery import tell
    from tokka.registry.publish import open_registry
    from tokka.steps.canary import conclude

    record = Record(settings.record_url, patience_s=PATIENCE_S)
    found = SignedAdmission(record, params, settings).standing(version)
    if found.verdict == "refused":
        key = conclude(open_registry(params, settings), version, settings, review=found.verdict, canary=None)
        Attempts(record).finish(params.registry.model, found.verdict, settings.job, key)
    if found.verdict != "approved":
        Leases(record).end(settings.job, succeeded=True)
        run_id = open_registry(params, settings).version(version).run_id
        tell(notice(found, params, version, run_id), params, settings)
    progress.result("review", version=version, verdict=found.verdict, reason=found.reason)
    return found.verdict


def notice(found: "Standing", params: Params, version: str, run_id: str) -> Event:
    """What people are told of a version that waits for its review, or was refused in it."""
    endpoint, subject = params.registry.model, f"review/{version}"
    if found.verdict == "waiting":
        what = f"Version {version} has passed the gate and waits for its review: tokka review show {version}."
        return Event("waiting_for_review", endpoint, subject, what, (found.reason,), "", version, run_id)
    what = f"Version {version} is refused in its review; it does not serve."
    return Event("refused", endpoint, subject, what, (found.reason,), "", version, run_id)
