"""tokka submit, schedule and logs, and what `tokka status --remote` shows: pipelines on a Kubeflow elsewhere."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from tokka.cli import tables
from tokka.cli.console import Call, Progress, command, with_source
from tokka.cli.run import EXIT_REFUSED, was_refused
from tokka.errors import TokkaError, UsageError
from tokka.settings import KubeflowSettings

if TYPE_CHECKING:
    from tokka.deployment.remote import Standing
    from tokka.runs.execute import Request
    from tokka.runs.kfp_server import KfpServer
    from tokka.runs.schedule import Scheduled

app = typer.Typer()

Pipeline = Literal["retrain", "specialise", "rollout"]
Submittable = Literal["retrain", "specialise", "rollout", "tune"]
PipelineName = Annotated[Pipeline, typer.Option(help="Which pipeline.")]
Profile = Annotated[str, typer.Option(help="Of infra/kubernetes/pipeline.yaml, such as gpu.")]
Image = Annotated[str, typer.Option(help="What the steps run in, as NAME@DIGEST; by default TOKKA_IMAGE.")]
Ranges = Annotated[
    list[str] | None, typer.Option("--search", help="With --pipeline tune: another range, as for `tokka tune`.")
]
Run = Annotated[str, typer.Argument(help="A run, by id or name; the newest by default.")]


@command(app)
def submit(
    call: Call,
    data: Annotated[str | None, typer.Option(help="Short for --set data.source=; pods must reach it.")] = None,
    pipeline: Annotated[Submittable, typer.Option(help="Which pipeline.")] = "retrain",
    run_id: Annotated[str, typer.Option(help="With --pipeline rollout: the MLflow run to roll out.")] = "",
    override: Annotated[str, typer.Option(help="Why a refused run is rolled out all the same; recorded.")] = "",
    cause: Annotated[
        Literal["person", "git", "drift"],
        typer.Option(help="Why; with drift, retrain looks at the traffic and decides."),
    ] = "person",
    profile: Profile = "",
    image: Image = "",
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="With --pipeline tune: trials of the study.")] = 20,
    workers: Annotated[int, typer.Option(min=1, max=100, help="With --pipeline tune: trials at a time.")] = 4,
    search: Ranges = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end, and exit as `tokka run` does.")] = False,
) -> int:
    """Run a pipeline on the Kubeflow that TOKKA_KFP_HOST names, once per key.

    The pipeline is uploaded as a version named by the commit. The same command again finds the run that it started,
    unless that has failed; of looks at drift one is under way at a time. Ctrl-C ends the waiting and not the run.

    Example: `TOKKA_KFP_HOST=http://localhost:8888 tokka submit --pipeline specialise --data s3://bucket/t.csv --wait`
    """
    from tokka.runs.execute import Request
    from tokka.runs.kfp_server import KfpServer
    from tokka.runs.remote_run import next_step
    from tokka.runs.submission import submit as start
    from tokka.runs.upload import Build

    server, began = KfpServer(KubeflowSettings.from_environment()), time.monotonic()
    params = with_source(call.params, data) if data else call.params
    if cause == "drift" and pipeline != "retrain":
        raise UsageError(f"--cause drift is of no meaning for {pipeline}", "--pipeline retrain looks at drift")
    request = Request(params=params, pipeline=pipeline, run_id=run_id, override=override, cause=cause)
    request = _search_of(request, trials, workers, tuple(search or ()))
    started = start(request, call.settings, server, Build(profile, image))
    before = "was started by this key before" if started.key else "is under way"
    said = "is started" if started.created else before
    call.out.print(f"{started.name} {said}, version {started.version} of {pipeline}\n{started.link}", soft_wrap=True)
    if not wait:
        again = "" if started.created else next_step(server, started.run_id)
        call.conclude({**started.model_dump(), "next": again}, *([f"next: {again}"] if again else []))
        return 0
    return _await(call, server, started.run_id, began)


@command(app)
def schedule(
    call: Call,
    action: Annotated[Literal["set", "list", "delete"], typer.Argument(help="What to do.")] = "set",
    cron: Annotated[str, typer.Option(help="Six fields, seconds first; UTC, unless KFP was told another zone.")] = "",
    pipeline: PipelineName = "retrain",
    cause: Annotated[
        Literal["drift", "schedule"], typer.Option(help="Let the drift policy decide, or train each time.")
    ] = "drift",
    profile: Profile = "",
    image: Image = "",
) -> None:
    """Let a pipeline run on Kubeflow at fixed times: set, change, list and delete its one recurring run.

    Each run takes the newest version that was uploaded; one runs at a time, and what was missed is not caught up.

    Example: `tokka schedule --cron "0 0 3 * * *"`, then `tokka schedule list` and `tokka schedule delete`
    """
    from tokka.runs import schedule as schedules
    from tokka.runs.execute import Request
    from tokka.runs.kfp_server import KfpServer
    from tokka.runs.upload import Build

    if action == "set" and not cron:
        raise UsageError("--cron is missing", schedules.EXAMPLE)
    if action == "set" and pipeline == "rollout":
        raise UsageError("a rollout is of one run, and has no schedule", "--pipeline retrain or specialise")
    server = KfpServer(KubeflowSettings.from_environment())
    if action == "list":
        found = schedules.listed(server)
    elif action == "delete":
        found = schedules.unschedule(pipeline, server)
    else:
        request = Request(params=call.params, pipeline=pipeline, cause=cause)
        found = [schedules.schedule(request, cron, call.settings, server, Build(profile, image))]
    shown = _schedules(found) if found else f"no schedule{'' if action == 'list' else f' of {pipeline}'} is there"
    call.conclude({"schedules": [one.model_dump() for one in found]}, shown)


@command(app, without=("params", "overrides"))
def logs(
    call: Call,
    run: Run = "",
    step: Annotated[str, typer.Option(help="Of one step alone.")] = "",
    remote: Annotated[bool, typer.Option("--remote", help="Of a run on Kubeflow.")] = False,
) -> None:
    """What the steps of a run have written; of the newest run on this machine, or with --remote of one on Kubeflow.

    Example: `tokka logs --remote specialise-3f2a91c0b7de --step finetune`
    """
    if not remote:
        _local_log(call, run, step)
        return
    from tokka.progress import read_log
    from tokka.runs import remote_run
    from tokka.runs.kfp_server import KfpServer

    server, found = KfpServer(KubeflowSettings.from_environment()), {}
    for name, text in remote_run.logs(server, remote_run.find(server, run), step):
        found[name] = read_log(text)[1]
        call.out.print(f"── {name} ──\n{found[name]}", soft_wrap=True)
    if not found:
        call.out.print("no step of this run has begun")
    call.conclude({"logs": found})


def show_remote(call: Call, wanted: str) -> None:
    """Tokka's newest runs and its schedules on Kubeflow; of one run, its steps."""
    from tokka.runs import remote_run
    from tokka.runs.kfp_server import KfpServer
    from tokka.runs.schedule import listed

    server = KfpServer(KubeflowSettings.from_environment())
    if wanted:
        one = remote_run.overview(server, remote_run.find(server, wanted))
        call.conclude(one, f"{one['name']}: {one['state']}\n{one['link']}", tables.step_table(one["steps"]))
        return
    found, schedules = [remote_run.as_json(server, run) for run in remote_run.runs(server)], listed(server)
    shown = tables.table("run", "state", "began (UTC)", "id", title="Runs")
    for one in found:
        shown.add_row(one["name"], one["state"], one["created"][:16].replace("T", " "), one["run_id"])
    stands = _rollout(call)
    parts = [shown if found else "no run of Tokka's is there", *([_schedules(schedules)] if schedules else [])]
    told = {"runs": found, "schedules": [one.model_dump() for one in schedules], "rollout": stands}
    call.conclude(told, *parts, *([_standing(stands)] if stands else []))


def _await(call: Call, server: "KfpServer", run_id: str, began: float) -> int:
    """Follow a run to its end and print what `tokka run` would; a failure that is no refusal is raised."""
    from tokka.runs import remote_run

    shown = Progress(call.out)
    try:
        final, error = remote_run.follow(server, run_id, shown)
    finally:
        shown.close()
    if found := final.get("search"):
        call.out.print(found["verdict"])
        call.out.print(found["diff"], soft_wrap=True, markup=False, end="")
    table = tables.run_summary(final, seconds=time.monotonic() - began)
    if error and not was_refused(final):
        call.out.print(table)
        raise error
    call.conclude(final, table)
    return EXIT_REFUSED if was_refused(final) else 0


def _search_of(request: "Request", trials: int, workers: int, ranges: tuple[str, ...]) -> "Request":
    """With what a search asks for; UsageError for a range that cannot be searched, before anything is uploaded."""
    from tokka.tuning.search_space import make_space

    if request.pipeline != "tune":
        return request
    make_space(request.params.finetuning, ranges)
    return request.model_copy(update={"trials": trials, "workers": workers, "ranges": ranges})


def _rollout(call: Call) -> "Standing | None":
    """How the cluster's rollout stands, by the record; what cannot be said of it hides no run."""
    from tokka.deployment.record.record import Record
    from tokka.deployment.remote import standing

    try:
        return standing(call.params.registry.model, Record(call.settings.record_url))
    except TokkaError as error:
        call.out.print(f"how the rollout stands cannot be said: {error.message}", markup=False)
        return None


def _standing(found: "Standing") -> Table:
    shown = tables.facts()
    seen = "nobody has looked within a minute" if found["observed"] is None else f"{found['observed']:.1%} observed"
    shown.add_row("rollout", f"version {found['version']}, {found['phase']}" if found["version"] else found["phase"])
    shown.add_row("share", f"{found['wanted']:.1%} wanted, {seen}")
    if found["evidence"]:
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in found["evidence"].items())
        shown.add_row("evidence", f"{figures} ({time.time() - found['told']:.0f} s ago)")
    shown.add_row("waits for", found["waits_for"] or "nothing")
    return shown


def _schedules(found: "Sequence[Scheduled]") -> Table:
    shown = tables.table("pipeline", "cron", "enabled", "", title="Schedules")
    for one in found:
        shown.add_row(one.pipeline, one.cron, "yes" if one.enabled else "no", one.change)
    return shown


def _local_log(call: Call, run: str, step: str) -> None:
    """The log of a run on this machine: its folder below TOKKA_HOME/runs, the newest by default."""
    if step:
        raise UsageError("a run on this machine writes one log for all its steps", "leave --step out")
    found = sorted((call.settings.home / "runs").glob(f"{run or '*'}/log.txt"))
    if not found:
        what = f"no run {run!r}" if run else "no run"
        raise TokkaError(f"{call.settings.home / 'runs'} has {what}", "`tokka run` makes one; --remote is Kubeflow's")
    text = found[-1].read_text(encoding="utf-8", errors="replace")
    call.out.print(f"── {found[-1].parent.name} ──\n{text}", soft_wrap=True)
    call.conclude({"logs": {found[-1].parent.name: text}})
