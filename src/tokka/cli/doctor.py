"""tokka doctor: the preflight, for people."""

import typer

from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, console, load, print_json_line


def add_to(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command()(doctor)


def doctor(params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None, json: Json = False) -> int:
    """Look at everything that a run needs, say what is not well and what to do; exit 1 when something is not.

    Example: `tokka doctor --set data.source=tickets.csv`
    """
    from tokka.steps.preflight import checks

    parsed, settings = load(params, overrides)
    out, found = console(json), []
    for check in checks(parsed, settings):
        found.append(check)
        out.print(f"{'[green]✓[/]' if check.well else '[red]✗[/]'} {check.name:<18} {check.found}")
        if not check.well:
            out.print(f"  [dim]→ {check.hint}[/]")
    well = all(check.well for check in found)
    if json:
        print_json_line({"well": well, "checks": [check.model_dump() for check in found]})
    return 0 if well else 1
