"""canary: shadow, steps of live traffic, promote or roll back."""

from kfp import dsl

from components import component


@component
def canary(params: dict, version: str, decision: dsl.Output[dsl.Markdown]) -> str:
    """Return promoted, rolled_back, held or superseded; the Markdown artifact says why."""
    import shutil
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import canary as step

    with TemporaryDirectory() as folder:
        out = Path(folder)
        outcome = step.run(parse_params(params), Settings.from_environment(), version, out)
        shutil.copy(out / "canary.md", decision.path)
    return outcome["verdict"]
