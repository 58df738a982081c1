"""What a run amounts to, computed from its events alone: steps, metrics, verdicts, version, and what is missing."""

from collections.abc import Iterable, Sequence

from tokka.errors import Refused, TokkaError
from tokka.files import JsonObject, Tree

# The step that follows when a decision says this; the local runner skips a branch that it cannot resolve with
# no more than a warning, so that a missing follower is an error here.
FOLLOWS = {
    ("detect_drift", "verdict", "retrain"): "preflight",
    ("gate", "verdict", "pass"): "register",
    ("review", "verdict", "approved"): "canary",
}

# What tidies up is no step of the work, unless it fails.
TIDYING = ("close",)
# Steps whose refusal leaves nothing that a table could show; of preflight where no run before has come so far.
UNTOLD = ("validate_data", "preflight")


def summarise(events: Iterable[Tree]) -> JsonObject:
    """Fold events into {"steps", "results"}; of a step that ran twice the last run counts."""
    steps: dict[str, dict[str, object]] = {}
    results: dict[str, JsonObject] = {}
    for event in events:
        name = event["step"]
        if event["event"] == "result":
            results[name] = dict(event["facts"])
        elif event["event"] == "failed" or (event["event"] in {"started", "done"} and name not in TIDYING):
            steps[name] = {"name": name, "seconds": round(event.get("seconds", 0.0), 1), "status": event["event"]}
    return {"steps": list(steps.values()), "results": results}


def check_complete(summary: Tree) -> None:
    """Every decision must have been followed by the step that it asked for; TokkaError when a branch was skipped."""
    done = {step["name"] for step in summary["steps"] if step["status"] == "done"}
    for (step, field, value), follower in FOLLOWS.items():
        if summary["results"].get(step, {}).get(field) == value and follower not in done:
            raise TokkaError(f"{step} said {value!r}, but {follower} did not run", "run the same command again")


def failure(events: Sequence[Tree]) -> TokkaError | None:
    """The first step that failed, or data that was refused, as the error that its user should read.

    What the gate or the canary refuse is an end of the run like any other: the summary tells it.
    """
    for event in events:
        if event["event"] == "failed":
            kind = Refused if event["exit_code"] == Refused.exit_code else TokkaError
            return kind(f"{event['step']}: {event['error']}", event["hint"])
    made = any(event["event"] == "result" and event["facts"].get("made") for event in events)
    for event in events:
        if event["event"] == "refused" and event["step"] in UNTOLD and not made:
            return Refused(f"{event['step']}: {event['error']}", event["hint"])
    return None


def was_refused(events: Sequence[Tree]) -> bool:
    """Whether the run ended because a step refused."""
    return any(event["event"] == "refused" for event in events)


def final(summary: Tree, *, key: str, mlflow: str, endpoint: str) -> JsonObject:
    """The object that `tokka run --json` ends with."""
    results = summary["results"]
    evaluation = results.get("evaluate", {}).get("evaluation", {})
    return {
        "key": key,
        "cached": False,
        "version": results.get("register", {}).get("version"),
        # An evaluation that is taken from a cache has written nothing.
        "run_id": results.get("evaluate", {}).get("run_id") or results.get("register", {}).get("run_id"),
        "data_digest": results.get("preprocess", {}).get("digest"),
        "dropped": results.get("preprocess", {}).get("dropped") or {},
        "model_digest": results.get("finetune", {}).get("digest"),
        "steps": summary["steps"],
        "metrics": {name: _values(evaluation.get(name)) for name in ("candidate", "champion", "general")},
        "drift": _verdict(results.get("detect_drift")),
        "gate": _verdict(results.get("gate")),
        "review": results.get("review", {}).get("verdict"),
        "canary": _verdict(results.get("canary")),
        "endpoint": endpoint,
        "report": results.get("evaluate", {}).get("report"),
        "mlflow": mlflow,
    }


def _values(subject: Tree | None) -> dict[str, float]:
    return {name: metric["value"] for name, metric in (subject or {}).get("metrics", {}).items()}


def _verdict(result: Tree | None) -> dict[str, object] | None:
    return {"verdict": result["verdict"], "reasons": result.get("reasons", [])} if result else None
