"""tune: search better values for params.yaml, trials side by side."""

from kfp import dsl

from components.preflight import preflight
from components.preprocess import preprocess
from components.refuse import refuse
from components.tune import tune as search
from components.validate_data import validate_data
from pipelines.form import FORM, JOB
from pipelines.kubernetes import place


@dsl.pipeline(name="tune", description="Search better values of the finetuning section on validation rows.")
def tune(
    endpoint: str = FORM.endpoint,
    data_source: str = FORM.data_source,
    text_column: str = FORM.text_column,
    label_column: str = FORM.label_column,
    strategy: str = FORM.strategy,
    base_model: str = FORM.base_model,
    epochs: int = FORM.epochs,
    overrides: dict = {},  # noqa: B006
    trials: int = 20,
    workers: list = [1, 2, 3, 4],  # noqa: B006
    ranges: list = [],  # noqa: B006
):
    """Search on several machines; nothing is registered, and nothing is written but the study.

    1. preflight: fails in seconds; a search claims no key
    2. validate_data and preprocess: as in specialise, and from the same cache
    3. tune, once for each of `workers`: all work on one study in the record's database, and each shows all of it

    Args:
        endpoint: Name of the endpoint and of its registered model.
        data_source: The labelled rows: s3://, https://, hf://, dvc://, or a path in the image.
        text_column: Column with the text.
        label_column: Column with the class, or the number.
        strategy: What of the base model is trained.
        base_model: The general model: package:NAME, a folder, or a hub id.
        epochs: Passes over the training rows.
        overrides: Further values of params.yaml, by section.
        trials: Trials of the study, those of before included.
        workers: One entry for each worker, its number.
        ranges: Other ranges, such as learning_rate=1e-5:1e-3.
    """
    start = place(
        preflight(
            endpoint=endpoint, data_source=data_source, text_column=text_column, label_column=label_column,
            strategy=strategy, base_model=base_model, epochs=epochs, review="", overrides=overrides, snapshot="",
            job=JOB, submitted_key="", submitted_data="", claims=False,
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
            with dsl.ParallelFor(workers, name="workers") as worker:
                place(
                    search(
                        params=told["params"], trials=trials, ranges=ranges, worker=worker, job=JOB,
                        data=data.outputs["data"],
                    )
                )  # fmt: skip
