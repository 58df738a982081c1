"""detect_drift: does the world still look like the test set, and is a retraining due?"""

from typing import NamedTuple

from kfp import dsl

from components import component


@component
def detect_drift(
    endpoint: str,
    data_source: str,
    text_column: str,
    label_column: str,
    strategy: str,
    base_model: str,
    epochs: int,
    review: str,
    overrides: dict,
    cause: str,
    job: str,
    drift: dsl.Output[dsl.HTML],
    traffic: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", [("Output", str), ("snapshot", str), ("params", dict)]):
    """Return retrain, wait or alert, the snapshot of labelled feedback to train on, and the composed params.

    The verdict is called Output because the local runner resolves conditions on no other name.
    """
    import shutil
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from tokka.params import from_form, written
    from tokka.settings import Settings
    from tokka.steps import detect_drift as step

    fields = {
        "endpoint": endpoint,
        "data_source": data_source,
        "text_column": text_column,
        "label_column": label_column,
        "strategy": strategy,
        "base_model": base_model,
        "epochs": epochs,
        "review": review,
    }
    settings = Settings.from_environment()
    params = from_form(settings.root, fields, overrides)
    with TemporaryDirectory() as folder:
        outcome = step.run(params, settings, cause, Path(folder))
        shutil.copy(Path(folder) / "drift.html", drift.path)
    traffic.log_metric("labelled_rows", float(outcome["labelled_rows"]))
    traffic.log_metric("windows", float(len(outcome["windows"])))
    return outcome["verdict"], outcome["snapshot"], written(params)
