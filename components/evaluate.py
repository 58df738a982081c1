"""evaluate: candidate, champion and general baseline on the same frozen rows."""

from kfp import dsl

from components import component


@component
def evaluate(
    inputs: dict,
    data_digest: str,
    model_digest: str,
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    trained: dsl.Input[dsl.Artifact],
    evidence: dsl.Output[dsl.Artifact],
    evaluation: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
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
    run_id, found = step.run(
        parse_params(inputs["params"]),
        Settings.from_environment(),
        prepared=Path(data.path),
        model=Path(model.path),
        trained=Path(trained.path),
        key=inputs["key"],
        snapshot=inputs["snapshot"],
        champion=inputs["champion"],
        out=out,
    )
    shutil.copy(out / "report.html", report.path)
    show_metrics(found, evaluation)
    show_classification(out, confusion)
    return run_id
