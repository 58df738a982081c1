"""preprocess: versioned train, validation and test splits."""

from kfp import dsl

from components import component


@component
def preprocess(params: dict, code_version: str, rows: dsl.Input[dsl.Dataset], data: dsl.Output[dsl.Dataset]):
    """Run the DVC stage; the data digest is in the artifact's metadata."""
    from pathlib import Path

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import preprocess as step

    outcome = step.run(parse_params(params), Settings.from_environment(), Path(rows.path), Path(data.path))
    data.metadata["digest"] = outcome["digest"]
