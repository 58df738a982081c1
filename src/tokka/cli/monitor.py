"""tokka monitor: the retrain pipeline on a window of traffic, once or again and again."""

import time
from typing import Annotated

import typer

from tokka.cli import tables
from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, console, load, print_json_line, progress


def add_to(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command()(monitor)


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
    from tokka.cli.run import EXIT_REFUSED, was_refused
    from tokka.runs.execute import Request, execute

    parsed, settings = load(params, overrides)
    out = console(json)
    while True:
        with progress(out, settings) as shown:
            final = execute(Request(params=parsed, pipeline="retrain", cause="drift"), settings, shown)
        out.print(tables.verdict_line("drift", final["drift"]))
        if final["gate"]:
            out.print(tables.verdict_line("gate", final["gate"]))
            out.print(tables.verdict_line("canary", final["canary"]))
        if json:
            print_json_line(final)
        if once:
            return EXIT_REFUSED if was_refused(final) else 0
        time.sleep(every)
