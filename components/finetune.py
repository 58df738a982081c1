"""finetune: the general model becomes a specialist."""

from kfp import dsl

from components import component


@component
def finetune(
    inputs: dict,
    data_digest: str,
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Metrics],
    outcome: dsl.Output[dsl.Artifact],
    learning_curve: dsl.Output[dsl.HTML],
) -> str:
    """Train on the prepared rows, export safetensors and ONNX, and return the model's digest."""
    from pathlib import Path

    from tokka import files
    from tokka.evaluation.report.kubeflow import show
    from tokka.evaluation.report.pages import training_page
    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import finetune as step

    params = parse_params(inputs["params"])
    found = step.run(params, Settings.from_environment(), Path(data.path), Path(model.path))
    model.metadata["digest"] = found["digest"]
    show(found["metrics"], training)
    files.write_json(Path(outcome.path), found)
    files.write_text(Path(learning_curve.path), training_page(found, params.task.type, params.model.base))
    return found["digest"]
