"""gate: may this candidate become a registry version? A pure decision, written down where people read it."""

from pathlib import Path
from typing import Any

from tokka import files, progress
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.settings import Settings

STEP = "gate"


def run(params: Params, settings: Settings, *, evaluation: Path, run_id: str, out: Path) -> dict[str, Any]:
    """Decide on an evidence folder, write gate.json and gate.md, tag the MLflow run; return the decision.

    An evaluation that cannot be read is a refusal with that reason, not a crash.
    """
    from tokka.deployment.record.retrainings import Attempts
    from tokka.evaluation.gate.gate import decide
    from tokka.registry.publish import record_decision

    with progress.step(STEP):
        decision = decide(_read(evaluation), params).as_dict()
        files.write_json(out / "gate.json", decision)
        files.write_text(out / "gate.md", as_markdown(decision))
        record_decision(run_id, decision, out, params, settings)
        if decision["verdict"] != "pass":
            Attempts(settings.record_url).finish(params.registry.model, "refused")
        progress.result(STEP, **decision)
        return decision


def as_markdown(decision: dict[str, Any]) -> str:
    """The decision as a table: verdict first, then every rule with its reason."""
    rows = "\n".join(f"| {rule['rule']} | {rule['verdict']} | {rule['reason']} |" for rule in decision["rules"])
    return f"# Gate: {decision['verdict']}\n\n| Rule | Verdict | Reason |\n|---|---|---|\n{rows}\n"


def _read(folder: Path) -> Any:
    try:
        return files.read_json(folder / "evaluation.json")
    except TokkaError as error:
        return {"unreadable": error.message}
