"""tokka tune: search better values for the finetuning section."""

from typing import Annotated

import typer
from rich.table import Table

from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, console, load, print_json_line
from tokka.cli.tables import Facts, table

app = typer.Typer()


@app.command()
def tune(
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Trials of the study, those of before included.")] = 20,
    timeout: Annotated[float | None, typer.Option(min=0, help="Begin no trial after so many seconds.")] = None,
    search: Annotated[
        list[str] | None, typer.Option("--search", help="Another range, such as learning_rate=1e-5:1e-3. Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the diff and leave the file as it is.")] = False,
    json: Json = False,
) -> int:
    """Search better finetuning values on the validation rows; write them into params.yaml and print the diff.

    The present values are the first trial. Nothing is written unless the best trial beats them by more than the
    standard error of the validation metric. The test rows take no part. After Ctrl-C the same command goes on.

    Example: `tokka tune --trials 12 --search epochs=2:4 --dry-run`
    """
    from tokka.steps.tune import run

    parsed, settings = load(params, overrides)
    path = params if params.is_absolute() or params.exists() else settings.root / params
    outcome = run(
        parsed, settings, path, trials=trials, timeout=timeout, overrides=tuple(search or ()), dry_run=dry_run
    )
    out = console(json)
    out.print(_table(outcome))
    out.print(outcome["verdict"])
    if outcome["diff"]:
        out.print(outcome["diff"], markup=False, soft_wrap=True, end="")
    if json:
        print_json_line(outcome)
    return 0


def _table(outcome: Facts) -> Table:
    shown = table("trial", "state", outcome["metric"], "epochs", "values")
    for trial in outcome["trials"]:
        value = "" if trial["value"] is None else f"{trial['value']:.4f}"
        values = ", ".join(f"{name.rpartition('.')[2]} {value:g}" for name, value in trial["values"].items())
        number = f"{trial['number']}{' (present)' if trial['present'] else ''}"
        shown.add_row(number, trial["state"], value, str(trial["epochs"]), values)
    return shown
