"""tokka run, monitor and reproduce: pipelines on this machine, from a raw file to an endpoint that answers."""

import os
import subprocess
import sys
import time
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from tokka import pending
from tokka.cli import tables
from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, conclude, console, load, progress
from tokka.params import Params
from tokka.settings import Settings

EXIT_REFUSED = 3

app = typer.Typer()


@app.command()
def run(
    data: Annotated[str | None, typer.Option(help="CSV, Parquet or JSON lines; short for --set data.source=.")] = None,
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    pipeline: Annotated[Literal["retrain", "specialise", "rollout"], typer.Option(help="Which pipeline.")] = "retrain",
    runner: Annotated[Literal["subprocess", "docker"], typer.Option(help="How tasks run.")] = "subprocess",
    run_id: Annotated[str, typer.Option(help="With --pipeline rollout: the MLflow run to roll out.")] = "",
    override: Annotated[str, typer.Option(help="Why a refused run is rolled out all the same; recorded.")] = "",
    json: Json = False,
) -> int:
    """Run a pipeline on this machine and end with a table: steps, metrics, verdicts, version, endpoint.

    A second run without a change returns what the first one made. After a kill, the same command resumes.

    Example: `tokka run --data tickets.csv --set task.text=body --set task.target=intent`
    """
    from tokka.runs.execute import Request, execute

    out, began = console(json), time.monotonic()
    parsed, settings = load(params, overrides, data)
    request = Request(params=parsed, pipeline=pipeline, runner=runner, run_id=run_id, override=override)
    with progress(out, settings) as shown:
        final = execute(request, settings, shown)
        shown({"event": "progress", "step": "endpoint", "message": "starting and asking it"})
        final = with_answer(final, parsed, settings)
    conclude(json, final, tables.run_summary(final, seconds=time.monotonic() - began))
    _complete_report(final, settings, out)
    return EXIT_REFUSED if was_refused(final) else 0


@app.command()
def monitor(
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    once: Annotated[bool, typer.Option("--once", help="One look, then stop.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 300.0,
    json: Json = False,
) -> int:
    """Look at the newest traffic; when the policy says so, retrain, gate and roll out. Ctrl-C stops it.

    Example: `tokka monitor --once`
    """
    from tokka.runs.execute import Request, execute

    parsed, settings = load(params, overrides)
    out = console(json)
    while True:
        with progress(out, settings) as shown:
            final = execute(Request(params=parsed, pipeline="retrain", cause="drift"), settings, shown)
        decisions = ("drift", "gate", "canary") if final["gate"] else ("drift",)
        conclude(json, final, *(tables.verdict_line(name, final[name]) for name in decisions))
        if once:
            return EXIT_REFUSED if was_refused(final) else 0
        time.sleep(every)


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="The registry version's number.")],
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    json: Json = False,
) -> int:
    """Rebuild a version from its key and compare digests, from the raw file to the model; exit 1 when one differs.

    Example: `tokka reproduce 1`
    """
    from tokka.runs.reproduce import run

    parsed, settings = load(params, overrides)
    links = run(version, parsed, settings)
    shown, same = tables.table("link", "recorded", "found", ""), all(link.same for link in links)
    for link in links:
        shown.add_row(link.name, link.recorded[:16], link.found[:16], "same" if link.same else "DIFFERENT")
    conclude(json, {"version": version, "same": same, "links": [link.model_dump() for link in links]}, shown)
    return 0 if same else 1


def _complete_report(final: tables.Facts, settings: Settings, out: Console) -> None:
    """Say that the stack completes the report; where no stack runs, as nothing serves yet, complete it here and now."""
    if final["cached"] or not pending.waiting(settings.home):
        return
    if final["endpoint"]:
        out.print("The report is being completed in the background: what is still missing stands in it.")
        return
    out.print("The report is being completed; Ctrl-C leaves that to the next [bold]tokka up[/].")
    log = settings.home / "logs" / "details.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        command = [sys.executable, "-P", "-m", "tokka.steps.complete_evaluation"]
        environment = {**os.environ, **settings.environment()}
        code = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode
    if code:
        out.print(f"It could not be completed: see {log}")


def with_answer(final: dict[str, Any], params: Params, settings: Settings) -> dict[str, Any]:
    """Bring the endpoint up when a champion exists, and let it answer one message of the data."""
    from tokka.deployment.record.record import Record
    from tokka.gateway.api_keys import own_headers
    from tokka.gateway.client import predict
    from tokka.stack.stack import ensure_up

    if Record(settings.record_url).read(params.registry.model).champion is None:
        return final
    info = ensure_up(settings, params)
    text, pair = first_message(params, settings)
    own = own_headers(settings.home)
    (answer,) = predict(info.endpoint, [text], None if pair is None else [pair], headers=own)
    return {**final, "endpoint": info.endpoint, "mlflow": info.mlflow or final["mlflow"], "answer": answer}


def first_message(params: Params, settings: Settings) -> tuple[str, str | None]:
    """One message to ask with, and its second text where the task has pairs: the data's first row, or a greeting."""
    from tokka.data.reading import first_row

    row = first_row(params, settings)
    pair = (row.text_pair if row else "hello") if params.task.text_pair else None
    return row.text if row else "hello", pair


def was_refused(final: tables.Facts) -> bool:
    """Whether a gate, a reviewer or the canary said no."""
    verdicts = {(final.get(name) or {}).get("verdict") for name in ("gate", "canary")}
    return bool(verdicts & {"refuse", "rolled_back", "held"}) or final.get("review") == "refused"
