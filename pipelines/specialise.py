"""specialise: from raw data and a general model to a candidate that the gate has judged."""

from kfp import dsl

from components.complete_evaluation import complete_evaluation
from components.evaluate import evaluate
from components.finetune import finetune
from components.gate import gate
from components.preflight import preflight
from components.preprocess import preprocess
from components.validate_data import validate_data
from pipelines.rollout import rollout


@dsl.pipeline(name="specialise", description="Turn a general model into a specialist and prove it.")
def specialise(params: dict, snapshot: str = "", code_version: str = ""):
    """Train one candidate and let the gate decide on it.

    1. preflight: fails in seconds, and gives the idempotency key
    2. validate_data: Great Expectations; a critical failure stops here
    3. preprocess: DVC; splits that stay what they are as data grows
    4. finetune: Lightning; safetensors and ONNX
    5. evaluate: candidate, champion, general baseline; one MLflow run
    6. gate: pass or refuse, with each reason
    7. rollout, if passed
    8. complete_evaluation: what no rule reads, into the same report and the same run; nothing waits for it
    """
    key = preflight(params=params, snapshot=snapshot, code_version=code_version).set_caching_options(False).output
    rows = validate_data(params=params, snapshot=snapshot, key=key, code_version=code_version).outputs["rows"]
    data = preprocess(params=params, code_version=code_version, rows=rows).outputs["data"]
    model = finetune(params=params, code_version=code_version, data=data).outputs["model"]
    evaluated = evaluate(params=params, key=key, snapshot=snapshot, data=data, model=model).set_caching_options(False)
    run_id = evaluated.outputs["Output"]
    verdict = gate(params=params, run_id=run_id, evidence=evaluated.outputs["evidence"]).set_caching_options(False)
    with dsl.If(verdict.outputs["Output"] == "pass", name="passed"):
        rollout(params=params, run_id=run_id).set_caching_options(False)
    complete_evaluation(
        params=params,
        run_id=run_id,
        decision=verdict.outputs["Output"],
        data=data,
        model=model,
        evidence=evaluated.outputs["evidence"],
        report=evaluated.outputs["report"],
    ).set_caching_options(False)
