"""retrain: watch the traffic, and specialise again when the policy, git, a schedule or a person says so."""

from kfp import dsl

from components.close import close
from components.detect_drift import detect_drift
from pipelines.form import FORM, JOB, NOTHING
from pipelines.kubernetes import place
from pipelines.specialise import specialise


@dsl.pipeline(name="retrain", description="Detect drift and retrain when the policy says so.")
def retrain(
    endpoint: str = FORM.endpoint,
    data_source: str = FORM.data_source,
    text_column: str = FORM.text_column,
    label_column: str = FORM.label_column,
    strategy: str = FORM.strategy,
    base_model: str = FORM.base_model,
    epochs: int = FORM.epochs,
    review: str = FORM.review,
    cause: str = "drift",
    overrides: dict = {},  # noqa: B006
    commit: str = "",
    key: str = "",
    data_digest: str = "",
):
    """Close the loop.

    1. detect_drift: windows of the request log against the champion's held-out reference; the policy decides
    2. specialise, if a retraining is due; `cause` person, git or schedule makes it due
    3. close: whatever happened, the attempt is over

    Args:
        endpoint: Name of the endpoint and of its registered model.
        data_source: The labelled rows: s3://, https://, hf://, dvc://, or a path in the image.
        text_column: Column with the text.
        label_column: Column with the class, or the number.
        strategy: What of the base model is trained.
        base_model: The general model: package:NAME, a folder, or a hub id.
        epochs: Passes over the training rows.
        review: Whether a person has to approve the version.
        cause: Why: drift retrains when the policy says so, person in any case.
        overrides: Further values of params.yaml, by section.
        commit: Of whoever started it, for the version's tags.
        key: Under which it was submitted; preflight says where this image's code makes another one.
        data_digest: Of the rows as they were submitted; preflight says where they are others now.
    """
    look = place(
        detect_drift(
            endpoint=endpoint, data_source=data_source, text_column=text_column, label_column=label_column,
            strategy=strategy, base_model=base_model, epochs=epochs, review=review, overrides=overrides, cause=cause,
            job=JOB,
        )
    )  # fmt: skip
    end = place(close(job=JOB))
    with dsl.ExitHandler(end, name="retrain if due"), dsl.If(look.outputs["Output"] == "retrain", name="due"):
        submitted = {"commit": commit, "key": key, "data_digest": data_digest}
        specialise(**NOTHING, overrides=look.outputs["params"], snapshot=look.outputs["snapshot"], **submitted)
