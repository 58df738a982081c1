"""gate: may this candidate become a registry version? A pure decision, written down where people read it."""

import shutil
from pathlib import Path

from tokka import files, progress, provenance
from tokka.deployment.record.leases import renewed
from tokka.errors import TokkaError
from tokka.files import JsonObject, Tree
from tokka.notifications import Event
from tokka.params import Params
from tokka.settings import Settings

# Verdicts that are a refusal of what was offered.
REFUSALS = ("refuse", "rolled_back", "held")


@progress.step("gate")
@renewed
def run(
    params: Params, settings: Settings, *, evaluation: Path, run_id: str, out: Path, key: str = "", commit: str = ""
) -> JsonObject:  # fmt: skip
    """Decide on an evidence folder, write gate.json and gate.html, tag the MLflow run; return the decision.

    The report in the folder then shows the verdict too. `key` is the run's: a refusal is what it came to; `commit` is
    what was submitted, which a pod cannot know. An evaluation that cannot be read is a refusal with that reason, not a
    crash.
    """
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.attempts import Attempts
    from tokka.deployment.record.claims import Claims
    from tokka.deployment.record.evidence import Evidence
    from tokka.deployment.record.record import Record
    from tokka.evaluation.gate.gate import decide
    from tokka.evaluation.recompute import look
    from tokka.evaluation.report.pages import gate_page
    from tokka.notifications.delivery import tell
    from tokka.registry.bundle import judgement
    from tokka.registry.publish import record_decision

    record = Record(settings.record_url, patience_s=PATIENCE_S)
    state = record.read(params.registry.model)
    try:
        found: Tree = files.read_json(evaluation / "evaluation.json")
    except TokkaError as error:
        found = {"unreadable": error.message}
    serving = (state.champion.version, state.champion.digest) if state.champion else None
    decision = decide(found, params, look(evaluation, found, params, serving)).as_dict()
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / "gate.json", decision)
    files.write_text(out / "gate.html", gate_page(decision, params.registry.model))
    show_verdict(evaluation, found, decision, out)
    # Into the record before MLflow, which only shows it: what registers reads it there and signs it.
    judged = judgement(evaluation, run_id, decision, generation=state.generation, author=provenance.author())
    Evidence(record, params.registry.model).judge(run_id, judged.model_dump(mode="json"))
    record_decision(run_id, decision, out, params, settings, key, commit)
    if decision["verdict"] != "pass":
        Attempts(record).finish(params.registry.model, "refused", settings.job, key)
        if key:
            result = ended(key, run_id=run_id, gate=decision, mlflow=settings.tracking_uri)
            Claims(record).conclude(key, settings.job, result)
        tell(refusal(decision, params, run_id, key), params, settings)
    progress.result("gate", **decision)
    return decision


def refusal(decision: Tree, params: Params, run_id: str, key: str) -> Event:
    """What people are told of a refused candidate, once for a key."""
    what, subject = "The gate refuses a candidate; it does not become a version.", f"gate/{key or run_id}"
    return Event("refused", params.registry.model, subject, what, decision["reasons"], run_id=run_id)


def show_verdict(evidence: Path, evaluation: Tree, decision: JsonObject, out: Path) -> None:
    """Bring the verdict to the top of report.html, and put that page into `out` as well."""
    from tokka.evaluation.evidence import write_page

    try:
        details = files.read_json(evidence / "details.json")
        write_page(evidence, evaluation, {**details, "gate": decision}, decision)
        shutil.copyfile(evidence / "report.html", out / "report.html")
    except Exception as error:  # evidence that was altered is refused by a rule; the page is not what decides
        progress.report("gate", f"the report does not show the verdict: {error}")


def ended(key: str, *, run_id: str, gate: Tree, mlflow: str, **more: object) -> JsonObject:
    """What a run under a key came to, in the shape that `tokka run --json` ends with; what is not known is empty."""
    empty = dict.fromkeys(("version", "data_digest", "model_digest", "drift", "review", "canary", "report"))
    verdict = {name: gate[name] for name in ("verdict", "reasons")}
    known = {"key": key, "cached": False, "run_id": run_id, "steps": [], "metrics": {}, "gate": verdict}
    return {**empty, **known, "endpoint": "", "mlflow": mlflow, **more}


def recalled(made: Tree) -> tuple[str, str]:
    """What the remembered end of a run means for the same key now, and why in words."""
    if not made:
        return "new", ""
    gate, canary, version = made.get("gate") or {}, made.get("canary") or {}, made.get("version")
    if data := made.get("data"):
        return "refused", "\n".join(["the same rows were refused before, by the same rules", *data["reasons"]])
    refused = [part for part in (gate, canary) if part.get("verdict") in REFUSALS]
    if refused or made.get("review") == "refused":
        why = [reason for part in refused for reason in part.get("reasons", [])] or ["a reviewer refused it"]
        named = f"version {version}" if version else "its candidate"
        return "refused", "\n".join([f"the same data, code and params were refused before, as {named}", *why])
    return "made", f"the same data, code and params made version {version} before: nothing is left to do"
