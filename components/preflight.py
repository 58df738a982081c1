"""preflight: everything reachable, writable and large enough, before anything costs."""

from components import component


@component
def preflight(params: dict, snapshot: str, code_version: str) -> str:
    """Check the surroundings and return the idempotency key of this run."""
    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import preflight as step

    return step.run(parse_params(params), Settings.from_environment(), snapshot)
