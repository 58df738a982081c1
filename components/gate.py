"""gate: pass or refuse, with every reason."""

from typing import NamedTuple

from kfp import dsl

from components import component


@component
def gate(
    params: dict, key: str, job: str, run_id: str, commit: str, evidence: dsl.Input[dsl.Artifact],
    decision: dsl.Output[dsl.HTML],
) -> NamedTuple("Outputs", [("Output", str), ("reasons", str)]):  # fmt: skip
    """Return pass or refuse; the page says why."""
    import shutil
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import gate as step

    with TemporaryDirectory() as folder:
        out = Path(folder)
        outcome = step.run(
            parse_params(params),
            Settings.from_environment(),
            evaluation=Path(evidence.path),
            run_id=run_id,
            out=out,
            key=key,
            commit=commit,
        )
        shutil.copy(out / "gate.html", decision.path)
    return outcome["verdict"], "\n".join(outcome["reasons"])
