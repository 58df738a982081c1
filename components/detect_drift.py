"""detect_drift: does the world still look like the test set, and is a retraining due?"""

from typing import NamedTuple

from kfp import dsl

from components import component


@component
def detect_drift(
    params: dict, cause: str, report: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]
) -> NamedTuple("Outputs", [("Output", str), ("snapshot", str)]):
    """Return retrain, wait or alert, and the snapshot of labelled feedback to train on.

    The verdict is called Output because the local runner resolves conditions on no other name.
    """
    import shutil
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import detect_drift as step

    with TemporaryDirectory() as folder:
        out = Path(folder)
        outcome = step.run(parse_params(params), Settings.from_environment(), cause, out)
        shutil.copy(out / "drift.html", report.path)
    metrics.log_metric("labelled_rows", float(outcome["labelled_rows"]))
    return outcome["verdict"], outcome["snapshot"]
