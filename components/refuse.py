"""refuse: ends a run that was refused, when every page of it is there."""

from components import component


@component
def refuse(by: str, reasons: str, job: str, inputs: dict = {}):  # noqa: B006
    """Give back what the run held, print the reasons, and fail; `inputs`: of validate_data, if that has refused."""
    import sys

    from tokka.settings import Settings
    from tokka.steps import refuse as step

    sys.exit(step.run(by, reasons, Settings.from_environment(), job, inputs))
