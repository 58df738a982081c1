"""validate_data: strict reading, quarantine, and the Great Expectations suite."""

from kfp import dsl

from components import component


@component
def validate_data(
    params: dict, snapshot: str, key: str, code_version: str, rows: dsl.Output[dsl.Dataset], docs: dsl.Output[dsl.HTML]
):
    """Hold the raw rows against the suite; the Data Docs are the HTML artifact."""
    import shutil
    from pathlib import Path

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import validate_data as step

    outcome = step.run(parse_params(params), Settings.from_environment(), Path(rows.path), snapshot)
    rows.metadata.update({"rows": outcome["rows"], "quarantined": outcome["quarantined"]})
    shutil.copy(Path(rows.path) / "docs.html", docs.path)
