"""review: approved, refused or waiting."""

from components import component


@component
def review(params: dict, version: str, job: str) -> str:
    """Return the review verdict of a version."""
    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import review as step

    return step.run(parse_params(params), Settings.from_environment(), version)
