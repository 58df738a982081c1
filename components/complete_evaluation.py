"""complete_evaluation: what is nice to know of the candidate; nothing waits for it."""

from kfp import dsl

from components import component


@component
def complete_evaluation(
    params: dict,
    run_id: str,
    decision: str,
    job: str,
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evidence: dsl.Input[dsl.Artifact],
    report: dsl.Input[dsl.HTML],
    completed_report: dsl.Output[dsl.HTML],
):
    """Complete the report and the MLflow run; `decision` only says that the gate is through."""
    from pathlib import Path

    from tokka.settings import Settings
    from tokka.steps import complete_evaluation as step

    folders = {"prepared": data.path, "model": model.path, "evidence": evidence.path, "report": report.path}
    request = step.Request(run_id=run_id, params=params, **folders)
    step.run(request, Settings.from_environment(), Path(completed_report.path))
