"""review: has somebody, or the rule of params.yaml, approved this version?"""

from tokka import progress
from tokka.params import Params
from tokka.settings import Settings

STEP = "review"


def run(params: Params, settings: Settings, version: str) -> str:
    """Return approved, refused or waiting; a version without a verdict waits when `registry.review` is required."""
    from tokka.registry.review import review_version

    with progress.step(STEP):
        verdict = review_version(version, params, settings)
        progress.result(STEP, version=version, verdict=verdict)
        return verdict
