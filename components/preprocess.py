"""preprocess: versioned train, validation and test splits."""

from kfp import dsl

from components import component


@component
def preprocess(
    inputs: dict, rows: dsl.Input[dsl.Dataset], data: dsl.Output[dsl.Dataset], splits: dsl.Output[dsl.HTML]
) -> str:
    """Run the DVC stage and return the digest of the data; the page shows what is in which split."""
    from pathlib import Path

    from tokka import files
    from tokka.evaluation.report.pages import split_page
    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import preprocess as step

    params = parse_params(inputs["params"])
    outcome = step.run(params, Settings.from_environment(), Path(rows.path), Path(data.path))
    data.metadata["digest"] = outcome["digest"]
    files.write_text(Path(splits.path), split_page(outcome, params.task.target))
    return outcome["digest"]
