"""canary: shadow, steps of live traffic, promote or roll back."""

from typing import NamedTuple

from kfp import dsl

from components import component


@component
def canary(params: dict, version: str, job: str, rollout: dsl.Output[dsl.HTML]) -> NamedTuple(
    "Outputs", [("Output", str), ("reasons", str)]
):
    """Return promoted, rolled_back (also what was held back) or superseded; the page says why."""
    import shutil
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import canary as step

    with TemporaryDirectory() as folder:
        out = Path(folder)
        outcome = step.run(parse_params(params), Settings.from_environment(), version, out)
        shutil.copy(out / "canary.html", rollout.path)
    return step.ENDS[outcome["verdict"]], "\n".join(outcome["reasons"])
