"""gate: pass or refuse, with every reason."""

from kfp import dsl

from components import component


@component
def gate(params: dict, run_id: str, evidence: dsl.Input[dsl.Artifact], decision: dsl.Output[dsl.Markdown]) -> str:
    """Return pass or refuse; the Markdown artifact says why."""
    import shutil
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from tokka.params import parse_params
    from tokka.settings import Settings
    from tokka.steps import gate as step

    with TemporaryDirectory() as folder:
        out = Path(folder)
        outcome = step.run(
            parse_params(params), Settings.from_environment(), evaluation=Path(evidence.path), run_id=run_id, out=out
        )
        shutil.copy(out / "gate.md", decision.path)
    return outcome["verdict"]
