"""One run from request to summary: its key, its lock, what it already made, and the launch when it made nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tokka import files
from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.leases import Leases
from tokka.deployment.record.record import Record
from tokka.errors import TokkaError, UsageError
from tokka.files import JsonObject, Tree
from tokka.params import Params, form_fields, written
from tokka.runs import summary as summaries
from tokka.runs.launch import Launch
from tokka.settings import Settings
from tokka.stack.stack import ensure_up
from tokka.steps import preflight

OnEvent = Callable[[Tree], None]
Cause = Literal["person", "drift", "git", "schedule"]


class Request(BaseModel):
    """What somebody, or something, asked for."""

    model_config = ConfigDict(frozen=True)

    params: Params
    pipeline: Literal["retrain", "specialise", "rollout", "tune"] = "retrain"
    cause: Cause = "person"
    runner: Literal["subprocess", "docker"] = "subprocess"
    run_id: str = ""
    override: str = ""
    # Of a search, which runs on Kubeflow alone: `tokka tune` is the one here.
    trials: int = 0
    workers: int = 0
    ranges: tuple[str, ...] = ()


def execute(request: Request, settings: Settings, on_event: OnEvent) -> JsonObject:
    """Run what is asked, or return what the same key has already made.

    TokkaError when a step failed; its own message, UsageError for a rollout without the MLflow run to roll out.
    """
    record = Record(settings.record_url)
    key = request_key(request, settings, record)
    with one_at_a_time(settings, key or request.run_id or request.cause, on_event):
        made = Claims(record).result(key) if key else None
        if made is not None:
            return {**made, "cached": True, "steps": []}
        if request.runner == "docker":
            # A stack that a container starts would end with it.
            ensure_up(settings, request.params)
        served = served_digests(request.params, record)
        launch = Launch(settings, request.pipeline, arguments(request, settings, record), request.runner, served)
        with attempt(request, record, launch.job):
            summary = summaries.summarise(launch.run(on_event))
            summaries.check_complete(summary)
            found = summary["results"].get("preflight", {})
            key = found.get("key", key)
            final = summaries.final(summary, key=key, mlflow=settings.tracking_uri, endpoint="")
            if found.get("made") and not is_settled(final):
                return {**found["made"], "cached": True, "steps": final["steps"]}
            if key and is_settled(final):
                Claims(record).conclude(key, launch.job, final)
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


def served_digests(params: Params, record: Record) -> list[str]:
    """The models that the record names, whose runs are kept."""
    state = record.read(params.registry.model)
    return [one.digest for one in (state.champion, state.challenger, state.previous) if one]


def arguments(request: Request, settings: Settings, record: Record) -> JsonObject:
    """The pipeline's parameters: the fields of its form, and the params in full as `overrides`.

    kfp takes no None, so that absent values are left out. UsageError for a rollout of nothing.
    """
    fields: JsonObject = {**form_fields(request.params)}
    said = {"overrides": written(request.params)}
    if request.pipeline == "rollout":
        if not request.run_id:
            raise UsageError("--pipeline rollout needs --run-id", "`tokka review list` shows the runs")
        own = {name: fields[name] for name in ("endpoint", "review")}
        return {**own, **said, "run_id": request.run_id, "override": request.override}
    if request.pipeline == "retrain":
        return {**fields, **said, "cause": request.cause}
    return {**fields, **said, "snapshot": champion_snapshot(request.params, record)}


def is_settled(final: Tree) -> bool:
    """Would the same command have nothing left to do? A version that waits for its reviewer is not settled."""
    if final["gate"] is None:
        return False
    if final["gate"]["verdict"] == "refuse":
        return True
    return final["review"] == "refused" or (final["canary"] or {}).get("verdict") in {"promoted", "rolled_back"}


@contextmanager
def attempt(request: Request, record: Record, job: str) -> Iterator[None]:
    """What an earlier crash or this run's failure cut short is over, so that it may be made again."""
    Attempts(record).abandon(request.params.registry.model, request.cause)
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        Leases(record).end(job, succeeded=succeeded)


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
