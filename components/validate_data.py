"""validate_data: strict reading, quarantine, and the Great Expectations suite."""

from typing import NamedTuple

from kfp import dsl

from components import component


@component
def validate_data(inputs: dict, rows: dsl.Output[dsl.Dataset], data_docs: dsl.Output[dsl.HTML]) -> NamedTuple(
    "Outputs", [("Output", str), ("reasons", str)]
):
    """Hold the raw rows against the suite and return pass or refuse; the Data Docs are the HTML artifact."""
    import shutil
    from pathlib import Path

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import validate_data as step

    out = Path(rows.path)
    params, settings = parse_params(inputs["params"]), Settings.from_environment()
    outcome = step.judge(params, settings, out, inputs["snapshot"], inputs["source"])
    rows.metadata.update({"rows": outcome["rows"], "quarantined": outcome["quarantined"]})
    shutil.copy(out / "docs.html", data_docs.path)
    return outcome["verdict"], "\n".join(outcome["reasons"])
