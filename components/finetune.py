"""finetune: the general model becomes a specialist."""

from kfp import dsl

from components import component


@component
def finetune(
    params: dict,
    code_version: str,
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train on the prepared rows and export safetensors and ONNX."""
    from pathlib import Path

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import finetune as step

    outcome = step.run(parse_params(params), Settings.from_environment(), Path(data.path), Path(model.path))
    model.metadata["digest"] = outcome["digest"]
    for name, value in outcome["metrics"].items():
        metrics.log_metric(name, float(value))
