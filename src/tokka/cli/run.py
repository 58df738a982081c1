"""tokka run, monitor, reproduce and tune: training on this machine, from a raw file to an endpoint that answers."""

import os
import subprocess
import sys
import time
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from tokka import pending
from tokka.cli import tables
from tokka.cli.console import Call, command, progress, with_source
from tokka.files import JsonObject, Tree
from tokka.params import Params
from tokka.settings import Settings

EXIT_REFUSED = 3

app = typer.Typer()


@command(app)
def run(
    call: Call,
    data: Annotated[str | None, typer.Option(help="CSV, Parquet or JSON lines; short for --set data.source=.")] = None,
    pipeline: Annotated[Literal["retrain", "specialise", "rollout"], typer.Option(help="Which pipeline.")] = "retrain",
    runner: Annotated[Literal["subprocess", "docker"], typer.Option(help="How tasks run.")] = "subprocess",
    run_id: Annotated[str, typer.Option(help="With --pipeline rollout: the MLflow run to roll out.")] = "",
    override: Annotated[str, typer.Option(help="Why a refused run is rolled out all the same; recorded.")] = "",
    cause: Annotated[Literal["person", "git"], typer.Option(help="Who asks; kept with the attempt.")] = "person",
) -> int:
    """Run a pipeline on this machine and end with a table: steps, metrics, verdicts, version, endpoint.

    A second run without a change returns what the first one made. After a kill, the same command resumes.

    Example: `tokka run --data tickets.csv --set task.text=body --set task.target=intent`
    """
    from tokka.runs.execute import Request, execute

    out, settings, began = call.out, call.settings, time.monotonic()
    params = with_source(call.params, data) if data else call.params
    request = Request(
        params=params, pipeline=pipeline, runner=runner, run_id=run_id, override=override, cause=cause
    )  # fmt: skip
    with progress(out, settings) as shown:
        final = execute(request, settings, shown)
        shown({"event": "progress", "step": "endpoint", "message": "starting and asking it"})
        final = with_answer(final, params, settings)
    call.conclude(final, tables.run_summary(final, seconds=time.monotonic() - began))
    _complete_report(final, settings, out)
    return EXIT_REFUSED if was_refused(final) else 0


@command(app)
def monitor(
    call: Call,
    once: Annotated[bool, typer.Option("--once", help="One look, then stop.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 300.0,
) -> int:
    """Look at the newest traffic; when the policy says so, retrain, gate and roll out. Ctrl-C stops it.

    Example: `tokka monitor --once`
    """
    from tokka.runs.execute import Request, execute

    while True:
        with progress(call.out, call.settings) as shown:
            final = execute(Request(params=call.params, pipeline="retrain", cause="drift"), call.settings, shown)
        decisions = ("drift", "gate", "canary") if final["gate"] else ("drift",)
        call.conclude(final, *(tables.verdict_line(name, final[name]) for name in decisions))
        if once:
            return EXIT_REFUSED if was_refused(final) else 0
        time.sleep(every)


@command(app)
def reproduce(call: Call, version: Annotated[str, typer.Argument(help="The registry version's number.")]) -> int:
    """Rebuild a version from its key and compare digests, from the raw file to the model; exit 1 when one differs.

    Example: `tokka reproduce 1`
    """
    from tokka.runs.reproduce import run

    links = run(version, call.params, call.settings)
    shown, same = tables.table("link", "recorded", "found", ""), all(link.same for link in links)
    for link in links:
        shown.add_row(link.name, link.recorded[:16], link.found[:16], "same" if link.same else "DIFFERENT")
    call.conclude({"version": version, "same": same, "links": [link.model_dump() for link in links]}, shown)
    return 0 if same else 1


@command(app)
def tune(
    call: Call,
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Trials of the study, those of before included.")] = 20,
    timeout: Annotated[float | None, typer.Option(min=0, help="Begin no trial after so many seconds.")] = None,
    search: Annotated[
        list[str] | None, typer.Option("--search", help="Another range, such as learning_rate=1e-5:1e-3. Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the diff and leave the file as it is.")] = False,
) -> int:
    """Search better finetuning values on the validation rows; write them into params.yaml and print the diff.

    The present values are the first trial. Nothing is written unless the best trial beats them by more than the
    standard error of the validation metric. The test rows take no part. After Ctrl-C the same command goes on.

    Example: `tokka tune --trials 12 --search epochs=2:4 --dry-run`
    """
    from tokka.tuning.tune import run

    outcome = run(
        call.params, call.settings, call.path,
        trials=trials, timeout=timeout, overrides=tuple(search or ()), dry_run=dry_run,
    )  # fmt: skip
    call.out.print(_trials(outcome), outcome["verdict"], sep="\n")
    if outcome["diff"]:
        call.out.print(outcome["diff"], soft_wrap=True, end="")
    call.conclude(outcome)
    return 0


def _trials(outcome: Tree) -> Table:
    shown = tables.table("trial", "state", outcome["metric"], "epochs", "values")
    for trial in outcome["trials"]:
        value = "" if trial["value"] is None else f"{trial['value']:.4f}"
        values = ", ".join(f"{name.rpartition('.')[2]} {value:g}" for name, value in trial["values"].items())
        number = f"{trial['number']}{' (present)' if trial['present'] else ''}"
        shown.add_row(number, trial["state"], value, str(trial["epochs"]), values)
    return shown


def _complete_report(final: Tree, settings: Settings, out: Console) -> None:
    """Say that the stack completes the report; where no stack runs, as nothing serves yet, complete it here and now."""
    if final["cached"] or not pending.waiting(settings.home):
        return
    if final["endpoint"]:
        out.print("The report is being completed in the background: what is still missing stands in it.")
        return
    out.print("The report is being completed; Ctrl-C leaves that to the next `tokka up`.")
    log = settings.home / "logs" / "details.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        command = [sys.executable, "-P", "-m", "tokka.steps.complete_evaluation"]
        environment = {**os.environ, **settings.environment()}
        code = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode
    if code:
        out.print(f"It could not be completed: see {log}")


def with_answer(final: JsonObject, params: Params, settings: Settings) -> JsonObject:
    """Bring the endpoint up when a champion exists, and let it answer one message of the data."""
    from tokka.data.reading import first_row
    from tokka.deployment.record.record import Record
    from tokka.gateway.api_keys import own_headers
    from tokka.gateway.client import predict
    from tokka.stack.stack import ensure_up

    if Record(settings.record_url).read(params.registry.model).champion is None:
        return final
    info = ensure_up(settings, params)
    row = first_row(params, settings)
    pairs = [row.text_pair if row else "hello"] if params.task.text_pair else None
    (answer,) = predict(info.endpoint, [row.text if row else "hello"], pairs, headers=own_headers(settings.home))
    return {**final, "endpoint": info.endpoint, "mlflow": info.mlflow or final["mlflow"], "answer": answer}


def was_refused(final: Tree) -> bool:
    """Whether a gate, a reviewer or the canary said no."""
    verdicts = {(final.get(name) or {}).get("verdict") for name in ("gate", "canary")}
    return bool(verdicts & {"refuse", "rolled_back", "held"}) or final.get("review") == "refused"
