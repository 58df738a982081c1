"""specialise: from raw data and a general model to a candidate that the gate has judged."""

from kfp import dsl

from components.complete_evaluation import complete_evaluation
from components.evaluate import evaluate
from components.finetune import finetune
from components.gate import gate
from components.preflight import preflight
from components.preprocess import preprocess
from components.refuse import refuse
from components.validate_data import validate_data
from pipelines.form import FORM, JOB
from pipelines.kubernetes import place
from pipelines.rollout import rollout


@dsl.pipeline(name="specialise", description="Turn a general model into a specialist and prove it.")
def specialise(
    endpoint: str = FORM.endpoint,
    data_source: str = FORM.data_source,
    text_column: str = FORM.text_column,
    label_column: str = FORM.label_column,
    strategy: str = FORM.strategy,
    base_model: str = FORM.base_model,
    epochs: int = FORM.epochs,
    review: str = FORM.review,
    overrides: dict = {},  # noqa: B006
    snapshot: str = "",
    commit: str = "",
    key: str = "",
    data_digest: str = "",
):
    """Train one candidate and let the gate decide on it.

    1. preflight: fails in seconds, and tells every later task what it needs; a key that was made before ends here
    2. validate_data: Great Expectations; a critical failure ends here
    3. preprocess: DVC; splits that stay what they are as data grows
    4. finetune: Lightning; safetensors and ONNX
    5. evaluate: candidate, champion, general baseline; one MLflow run
    6. gate: pass or refuse, with each reason
    7. rollout, if passed
    8. complete_evaluation: what no rule reads, into the same report and the same run; nothing waits for it

    Args:
        endpoint: Name of the endpoint and of its registered model.
        data_source: The labelled rows: s3://, https://, hf://, dvc://, or a path in the image.
        text_column: Column with the text.
        label_column: Column with the class, or the number.
        strategy: What of the base model is trained.
        base_model: The general model: package:NAME, a folder, or a hub id.
        epochs: Passes over the training rows.
        review: Whether a person has to approve the version.
        overrides: Further values of params.yaml, by section.
        snapshot: Labelled feedback to train on as well; by default the champion's.
        commit: Of whoever started it, for the version's tags.
        key: Under which it was submitted; preflight says where this image's code makes another one.
        data_digest: Of the rows as they were submitted; preflight says where they are others now.
    """
    start = place(
        preflight(
            endpoint=endpoint, data_source=data_source, text_column=text_column, label_column=label_column,
            strategy=strategy, base_model=base_model, epochs=epochs, review=review, overrides=overrides,
            snapshot=snapshot, job=JOB, submitted_key=key, submitted_data=data_digest,
        )
    )  # fmt: skip
    told = start.outputs
    with dsl.If(told["Output"] == "refused", name="refused before"):
        place(refuse(by="preflight", reasons=told["reasons"], job=JOB)).set_display_name("refused before")
    with dsl.If(told["Output"] == "new", name="new"):
        valid = place(validate_data(inputs=told["validate_data"]))
        with dsl.If(valid.outputs["Output"] == "refuse", name="data refused"):
            found = {"reasons": valid.outputs["reasons"], "inputs": told["validate_data"]}
            place(refuse(by="validate_data", job=JOB, **found)).set_display_name("data refused")
        with dsl.If(valid.outputs["Output"] == "pass", name="data accepted"):
            data = place(preprocess(inputs=told["preprocess"], rows=valid.outputs["rows"]))
            digest, rows = data.outputs["Output"], data.outputs["data"]
            model = place(finetune(inputs=told["finetune"], data_digest=digest, data=rows))
            measured = place(
                evaluate(
                    inputs=told["evaluate"], data_digest=digest, model_digest=model.outputs["Output"], data=rows,
                    model=model.outputs["model"], trained=model.outputs["outcome"],
                )
            )  # fmt: skip
            run_id, evidence = measured.outputs["Output"], measured.outputs["evidence"]
            verdict = place(
                gate(params=told["params"], key=told["key"], job=JOB, run_id=run_id, commit=commit, evidence=evidence)
            )
            with dsl.If(verdict.outputs["Output"] == "refuse", name="refused by the gate"):
                end = place(refuse(by="gate", reasons=verdict.outputs["reasons"], job=JOB))
                end.set_display_name("refused by the gate")
            with dsl.If(verdict.outputs["Output"] == "pass", name="passed"):
                rollout(run_id=run_id, endpoint="", review="", override="", overrides=told["params"])
            place(
                complete_evaluation(
                    params=told["params"], run_id=run_id, decision=verdict.outputs["Output"], job=JOB, data=rows,
                    model=model.outputs["model"], evidence=evidence, report=measured.outputs["report"],
                )
            )  # fmt: skip
