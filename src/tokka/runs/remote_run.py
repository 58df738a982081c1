"""A run on Kubeflow, watched from here: its steps as they go, what it came to, and what its pods have written."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel

from tokka import progress
from tokka.errors import Refused, TokkaError
from tokka.files import JsonObject, Tree
from tokka.runs import ir, summary
from tokka.runs.kfp_server import Foreign, KfpServer, Missing, NoAnswer, equals
from tokka.runs.submission import EXPERIMENT

# The API's states of a task in the words of `tokka run`; what is left out has not begun, or never will.
STATUS = {"RUNNING": "started", "SUCCEEDED": "done", "FAILED": "failed"}
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
POLL_SECONDS = 3.0
# How long a server that does not answer is waited for.
PATIENCE_SECONDS = 300.0

# Why a run failed that no step accounts for, by whether one of them still stands as running.
UNSAID = {
    False: "no step says why: its pods may not have started",
    True: "KFP's list of its steps ends before its end, as it does once Argo's status of a run exceeds 1 MB; "
    "the run's graph shows the step that failed",
}
OnEvent = Callable[[Tree], None]


class StepState(BaseModel):
    """One step: its name as `tokka run` says it, how long it has run, and started, done or failed."""

    name: str
    seconds: float
    status: str


def find(server: KfpServer, run: str) -> Foreign:
    """A run by its id or its name, the newest of Tokka's runs for an empty `run`; TokkaError when there is none."""
    if len(run) == 36 and run.count("-") == 4:
        return server.call(f"find run {run}", server.service("Run").run_service_get_run, run)
    found = next(runs(server, run), None)
    if found is None:
        what = f"a run named {run!r}" if run else "any run of Tokka's"
        raise TokkaError(f"{server.settings.host} does not have {what}", "`tokka status --remote` lists the runs")
    return server.call(f"find run {run}", server.service("Run").run_service_get_run, found.run_id)


def runs(server: KfpServer, name: str = "", limit: int = 10) -> Iterator[Foreign]:
    """Tokka's runs, newest first, of this name if given: those of its experiment, schedules included."""
    service, options = server.service("Experiment"), {"filter": equals("display_name", EXPERIMENT), **server.namespace}
    listing = service.experiment_service_list_experiments
    experiment = next(server.pages("find the experiment", listing, "experiments", **options), None)
    if experiment is None:
        return
    options = {"filter": equals("display_name", name)} if name else {}
    answer = server.call(
        "list the runs",
        server.service("Run").run_service_list_runs,
        experiment_id=experiment.experiment_id,
        page_size=limit,
        sort_by="created_at desc",
        **options,
    )
    yield from answer.runs or ()


def document(server: KfpServer, run: Foreign) -> JsonObject:
    """The compiled pipeline that a run was started from; empty when somebody has deleted that version."""
    source = run.pipeline_version_reference
    if not source:
        return dict(run.pipeline_spec or {})
    get = server.service("Pipeline").pipeline_service_get_pipeline_version
    try:
        version = server.call("read the run's pipeline", get, source.pipeline_id, source.pipeline_version_id)
    except Missing:
        return {}
    return dict(version.pipeline_spec or {})


def steps(run: Foreign, known: Sequence[ir.Step], now: datetime | None = None) -> list[StepState]:
    """The steps of a run that have begun, in that order.

    KFP reports each of Argo's nodes; drivers, groups, pods and attempts are left out by the pipeline's own steps.
    """
    now, found = now or datetime.now(UTC), list[tuple[datetime, StepState]]()
    workflow, nodes = _nodes(run)
    for one in _details(run):
        step = _step_of(one, known, workflow, nodes)
        if step and str(one.state) in STATUS:
            took = ((now if one.state == "RUNNING" else one.end_time) - one.start_time).total_seconds()
            state = StepState(name=step.title, seconds=max(0.0, took), status=STATUS[str(one.state)])
            found.append((one.start_time, state))
    return [state for _, state in sorted(found, key=lambda pair: (pair[0], pair[1].name))]


def _details(run: Foreign) -> Sequence[Foreign]:
    """Argo's nodes; KFP also lists executions of steps that may be retried, without a name or a state."""
    return [one for one in (run.run_details and run.run_details.task_details) or () if one.display_name]


def _nodes(run: Foreign) -> tuple[str, dict[str, str]]:
    """The name of a run's workflow in Kubernetes, and the names of its nodes by id."""
    ids = {child.pod_name for one in _details(run) for child in one.child_tasks or () if child.pod_name}
    workflow = next((one.rpartition("-")[0] for one in ids), "")
    return workflow, ir.node_names(workflow, ids, [one.display_name for one in _details(run)])


def _step_of(one: Foreign, known: Sequence[ir.Step], workflow: str, nodes: Mapping[str, str]) -> ir.Step | None:
    """The step that a node stands for; of several with the same key that whose path its children have."""
    own = [step for step in known if step.key == one.display_name]
    if len(own) < 2:
        return own[0] if own else None
    children = {ir.path(nodes.get(child.pod_name, ""), workflow) for child in one.child_tasks or ()}
    return next((step for step in own if children & {step.node, f"{step.node}.executor"}), None)


def events(before: Mapping[str, str], after: Sequence[StepState]) -> Iterator[JsonObject]:
    """What has happened since a look, as events that a `Progress` shows; `before`: status by name."""
    for step in after:
        if before.get(step.name) == step.status:
            continue
        if step.name not in before and step.status != "started":
            yield {"step": step.name, "event": "started"}
        yield {"step": step.name, "event": step.status, "seconds": step.seconds}


def watch(
    server: KfpServer, run_id: str, on_event: OnEvent, pause: Callable[[float], None] = time.sleep
) -> tuple[Foreign, list[StepState]]:
    """Follow a run to its end, handing every change of a step on; return the run and its steps.

    A server that does not answer for a while is waited for; TokkaError when it stays away, or refuses.
    """
    get, known, silent_s = server.service("Run").run_service_get_run, None, 0.0
    seen: dict[str, str] = {}
    while True:
        try:
            run = server.call("ask how the run goes", get, run_id)
            known = known if known is not None else ir.steps(document(server, run))
        except NoAnswer as error:
            silent_s += POLL_SECONDS
            if silent_s > PATIENCE_SECONDS:
                error.hint = "the run goes on without being watched: `tokka status --remote` once the server answers"
                raise
            on_event({"step": "kubeflow", "event": "progress", "message": "the server does not answer; waiting"})
        else:
            silent_s, now = 0.0, steps(run, known)
            for event in events(seen, now):
                on_event(event)
            seen = {step.name: step.status for step in now}
            if str(run.state) in ENDED:
                return run, now
            if not now:
                on_event({"step": "kubeflow", "event": "progress", "message": f"the run is {str(run.state).lower()}"})
        pause(POLL_SECONDS)


def follow(
    server: KfpServer, run_id: str, on_event: OnEvent, pause: Callable[[float], None] = time.sleep
) -> tuple[JsonObject, TokkaError | None]:
    """Watch a run to its end: the object that `tokka run --json` ends with, and why it failed, if it did.

    What the steps found and why one failed stands in their logs alone; where those are gone, the states are all.
    """
    run, states = watch(server, run_id, on_event, pause)
    found = _events(server, run)
    results, link = summary.summarise(found)["results"], server.link(f"runs/details/{run_id}")
    told = {"steps": [state.model_dump() for state in states], "results": results}
    first = results.get("preflight", {})
    final = summary.final(told, key=first.get("key", ""), mlflow="", endpoint="")
    if first.get("made") and final["gate"] is None:
        final = {**first["made"], "cached": True, "steps": final["steps"]}
    # The report lies in a pod that is gone; its page is in the run.
    end = {**final, "report": None, "kubeflow": link, "next": how_to_go_on(final)}
    end |= {"search": results["tune"]} if "tune" in results else {}
    return end, failure(run, states, found, link)


def next_step(server: KfpServer, run_id: str) -> str:
    """How to go on with a run that ended well, for whoever submits the same again; empty when nothing is left to do."""
    run = server.call("ask how the run went", server.service("Run").run_service_get_run, run_id)
    if str(run.state) != "SUCCEEDED":
        return ""
    results = summary.summarise(_events(server, run))["results"]
    final = summary.final({"steps": [], "results": results}, key="", mlflow="", endpoint="")
    # Where its logs are gone, nobody here knows whether it waits.
    return how_to_go_on(final if results else {**final, "review": "waiting"})


def how_to_go_on(final: Tree) -> str:
    """What a person does about a version that waits for its review, as commands; empty for any other end."""
    if final["review"] != "waiting":
        return ""
    version, run_id = final["version"] or "VERSION", final["run_id"] or "RUN"
    known = "" if final["version"] else "if its version waits for a review (`tokka review list`): "
    approve = f"tokka review approve {version} --no-rollout"
    roll_out = f"tokka submit --pipeline rollout --run-id {run_id}"
    return f"{known}`{approve}`, then `{roll_out}`"


def _events(server: KfpServer, run: Foreign) -> list[JsonObject]:
    return [event for _, text in logs(server, run) for event in progress.read_log(text)[0]]


def failure(run: Foreign, states: Sequence[StepState], found: Sequence[Tree], link: str) -> TokkaError | None:
    """Why a run that has ended is no success, as the error that its user should read; `found`: events of its logs.

    Without a log, a refusal is known by its task, which fails by design and says so in its name.
    """
    if run.state == "SUCCEEDED":
        return None
    hint = f"its pages are at {link}; `tokka logs --remote {run.run_id}` shows what it wrote"
    failed = [state.name for state in states if state.status == "failed"]
    refused = next((name for name in failed if "refused" in name or "rolled back" in name), "")
    said = summary.failure(found)
    if said:
        said.hint = f"{said.hint}; {hint}" if said.hint else hint
        return said
    if refused:
        return Refused(refused.replace("_", " "), hint)
    if str(run.state) == "CANCELED":
        return TokkaError("the run was terminated", f"the same command starts it again; {hint}")
    why = run.error.message if run.error and run.error.message else UNSAID[any(s.status == "started" for s in states)]
    return TokkaError(f"{', '.join(failed)} failed" if failed else f"the run failed: {why}", hint)


def as_json(server: KfpServer, run: Foreign) -> JsonObject:
    """A run as plain data, without its steps."""
    return {
        "run_id": run.run_id,
        "name": run.display_name,
        "state": str(run.state or "PENDING").lower(),
        "created": run.created_at.isoformat(timespec="seconds"),
        "link": server.link(f"runs/details/{run.run_id}"),
    }


def overview(server: KfpServer, run: Foreign) -> JsonObject:
    """A run as plain data, with its steps."""
    states = steps(run, ir.steps(document(server, run)))
    return {**as_json(server, run), "steps": [state.model_dump() for state in states]}


def logs(server: KfpServer, run: Foreign, wanted: str = "") -> Iterator[tuple[str, str]]:
    """Step and text of what the pods of each step have written, in the order of the steps; of one step if named.

    A pod that is gone, and whose log KFP has not archived, says so in its text. TokkaError for a step that is none.
    """
    known = ir.steps(document(server, run))
    titles, wanted = {step.title: step for step in known}, wanted.replace("-", "_")
    if wanted and wanted not in titles:
        raise TokkaError(f"run {run.run_id} has no step {wanted!r}", f"its steps are {', '.join(titles)}")
    workflow, nodes = _nodes(run)
    for state in steps(run, known):
        if wanted in ("", state.name):
            pods = ir.pod_names(titles[state.name], workflow, nodes.values())
            none = "(nothing yet)" if state.status == "started" else "(its pod is gone, and no log was archived)"
            yield state.name, _log(server, run.run_id, state.name, pods) or f"{none}\n"


def _log(server: KfpServer, run_id: str, step: str, pods: Sequence[str]) -> str:
    """Of the newest pod that has written; empty where none has."""
    for pod in pods:
        text = server.text(f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", f"read the log of {step}")
        if not _is_error(text):
            return text
    return ""


def _is_error(text: str) -> bool:
    """KFP answers 200 before it looks for the pod; what it then could not read stands in the text."""
    try:
        return "error_message" in json.loads(text)
    except (ValueError, TypeError):
        return False
