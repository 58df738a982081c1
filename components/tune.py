"""tune: one worker of a search for better values."""

from kfp import dsl

from components import component


@component
def tune(
    params: dict,
    trials: int,
    ranges: list,
    worker: int,
    job: str,
    data: dsl.Input[dsl.Dataset],
    search: dsl.Output[dsl.HTML],
):
    """Train trials of the study until it has so many, together with the other workers; the page shows all of them."""
    from pathlib import Path

    from tokka import files
    from tokka.evaluation.report.pages import search_page
    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.tuning import tune as step

    given = parse_params(params)
    outcome = step.work(given, Settings.from_environment(), Path(data.path), trials=trials, overrides=tuple(ranges))
    files.write_text(Path(search.path), search_page(outcome, given.registry.model))
