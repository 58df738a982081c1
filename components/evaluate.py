"""evaluate: candidate, champion and general baseline on the same frozen rows."""

from kfp import dsl

from components import component


@component
def evaluate(
    params: dict,
    key: str,
    snapshot: str,
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evidence: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Measure, log one MLflow run, and return its id."""
    import shutil
    from pathlib import Path

    from tokka.evaluation.report.kubeflow import show_classification, show_metrics
    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import evaluate as step

    out = Path(evidence.path)
    run_id, evaluation = step.run(
        parse_params(params),
        Settings.from_environment(),
        prepared=Path(data.path),
        model=Path(model.path),
        key=key,
        snapshot=snapshot,
        out=out,
    )
    shutil.copy(out / "report.html", report.path)
    show_metrics(evaluation, metrics)
    show_classification(out, classification)
    return run_id
