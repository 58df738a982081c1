"""register: a passed run becomes a signed registry version."""

from components import component


@component
def register(params: dict, run_id: str, override: str) -> str:
    """Return the version; the same run always gives the same one."""
    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import register as step

    return step.run(parse_params(params), Settings.from_environment(), run_id, override)
