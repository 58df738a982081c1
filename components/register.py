"""register: a passed run becomes a signed registry version."""

from typing import NamedTuple

from kfp import dsl

from components import component


@component
def register(
    endpoint: str, review: str, overrides: dict, run_id: str, override: str, job: str, card: dsl.Output[dsl.HTML]
) -> NamedTuple("Outputs", [("Output", str), ("params", dict)]):
    """Return the version, which is always the same for the same run, and the composed params; the card is its page."""
    import shutil
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from tokka.params import written
    from tokka.settings import Settings
    from tokka.steps import register as step

    settings = Settings.from_environment()
    params = step.rollout_params({"endpoint": endpoint, "review": review}, overrides, settings, run_id)
    with TemporaryDirectory() as folder:
        version = step.run(params, settings, run_id, override, job=job, out=Path(folder))
        shutil.copy(Path(folder) / step.CARD_PAGE, card.path)
    return version, written(params)
