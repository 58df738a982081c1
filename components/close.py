"""close: the exit task of a retraining: whatever happened, what the run held is given back."""

from kfp import dsl

from components import component


@component
def close(job: str, status: dsl.PipelineTaskFinalStatus):
    """Close what the run began."""
    from tokka.settings import Settings
    from tokka.steps import close as step

    step.run(Settings.from_environment(), job, status.state)
