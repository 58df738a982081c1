"""One run from request to summary: its key, its lock, what it already made, and the launch when it made nothing.

summary = execute(Request(params=params, pipeline="retrain"), settings, on_event=show)
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tokka import files, provenance
from tokka.deployment.record.record import Record
from tokka.deployment.record.retrainings import FAILED, Attempts
from tokka.errors import TokkaError, UsageError
from tokka.params import Params
from tokka.runs import summary as summaries
from tokka.runs.launch import Launch
from tokka.settings import Settings
from tokka.steps import preflight

OnEvent = Callable[[Mapping[str, Any]], None]
Cause = Literal["person", "drift", "git", "schedule"]


class Request(BaseModel):
    """What somebody, or something, asked for."""

    model_config = ConfigDict(frozen=True)

    params: Params
    pipeline: Literal["retrain", "specialise", "rollout"] = "retrain"
    cause: Cause = "person"
    runner: Literal["subprocess", "docker"] = "subprocess"
    run_id: str = ""
    override: str = ""


def execute(request: Request, settings: Settings, on_event: OnEvent) -> dict[str, Any]:
    """Run what is asked, or return what the same key has already made.

    Raises:
        TokkaError: a step failed; its own message.
        UsageError: a rollout without the MLflow run to roll out.
    """
    record = Record(settings.record_url)
    key = request_key(request, settings, record)
    with one_at_a_time(settings, key or request.run_id or request.cause, on_event):
        made = record.recall_run(key) if key else None
        if made is not None:
            return {**made, "cached": True, "steps": []}
        launch = Launch(settings, request.pipeline, arguments(request, settings, record), request.runner)
        with attempt(request, settings):
            summary = summaries.summarise(launch.run(on_event))
            summaries.check_complete(summary)
        key = summary["results"].get("preflight", {}).get("key", key)
        final = summaries.final(summary, key=key, mlflow=settings.tracking_uri, endpoint="")
        if key and is_settled(final):
            record.remember_run(key, final)
        return final


def request_key(request: Request, settings: Settings, record: Record) -> str:
    """The idempotency key, where it is known before the run: drift decides on its data only inside."""
    if request.pipeline == "rollout" or request.cause == "drift":
        return ""
    return preflight.key(request.params, settings, champion_snapshot(request.params, record))


def champion_snapshot(params: Params, record: Record) -> str:
    """The labelled feedback that the champion was trained with, so that no later run forgets it."""
    champion = record.read(params.registry.model).champion
    return champion.snapshot if champion else ""


def arguments(request: Request, settings: Settings, record: Record) -> dict[str, Any]:
    """The pipeline's parameters; kfp takes no None, so that absent values are left out."""
    params = request.params.model_dump(mode="json", exclude_none=True)
    if request.pipeline == "rollout":
        if not request.run_id:
            raise UsageError("--pipeline rollout needs --run-id", "`tokka review list` shows the runs")
        return {"params": params, "run_id": request.run_id, "override": request.override}
    common = {"params": params, "code_version": provenance.code_version()}
    if request.pipeline == "retrain":
        return {**common, "cause": request.cause}
    return {**common, "snapshot": champion_snapshot(request.params, record)}


def is_settled(final: Mapping[str, Any]) -> bool:
    """Would the same command have nothing left to do? A version that waits for its reviewer is not settled."""
    if final["gate"] is None:
        return False
    if final["gate"]["verdict"] == "refuse":
        return True
    return final["review"] == "refused" or (final["canary"] or {}).get("verdict") in {"promoted", "rolled_back"}


@contextmanager
def attempt(request: Request, settings: Settings) -> Iterator[None]:
    """An attempt that an earlier crash or this run's failure cut short is over, so that it may be made again."""
    attempts, endpoint = Attempts(settings.record_url), request.params.registry.model
    attempts.finish(endpoint, FAILED, request.cause)
    try:
        yield
    except BaseException:
        attempts.finish(endpoint, FAILED, request.cause)
        raise


@contextmanager
def one_at_a_time(settings: Settings, name: str, on_event: OnEvent) -> Iterator[None]:
    """Let one run of a key through; a second waits, says so, and then finds what the first one made."""
    lock = settings.home / "locks" / f"{name}.lock"
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(lock, timeout=0))
        except TokkaError:
            on_event({"step": "run", "event": "progress", "message": f"waiting for another run of {name[:12]} to end"})
            held.enter_context(files.locked(lock))
        yield
