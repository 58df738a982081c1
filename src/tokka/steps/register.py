"""register: the passed candidate becomes a signed registry version with its evidence."""

from tokka import progress
from tokka.params import Params
from tokka.settings import Settings

STEP = "register"


def run(params: Params, settings: Settings, run_id: str, override: str = "") -> str:
    """Return the version's number; the same run always gives the same version.

    Raises:
        Refused: the gate did not pass this run and no reason to override it was given.
    """
    from tokka.registry.publish import register_candidate

    with progress.step(STEP):
        version = register_candidate(run_id, params, settings, override=override)
        progress.result(STEP, version=version, override=override)
        return version
