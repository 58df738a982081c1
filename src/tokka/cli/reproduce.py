"""tokka reproduce: rebuild a version and compare digests."""

from typing import Annotated

import typer
from rich.table import Table

from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, console, load, print_json_line


def add_to(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command()(reproduce)


def reproduce(
    version: Annotated[str, typer.Argument(help="The registry version's number.")],
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    json: Json = False,
) -> int:
    """Rebuild a version from its key and compare digests, from the raw file to the model; exit 1 when one differs.

    Example: `tokka reproduce 1`
    """
    from tokka.steps.reproduce import run

    parsed, settings = load(params, overrides)
    links = run(version, parsed, settings)
    table = Table("link", "recorded", "found", "", box=None, pad_edge=False)
    for link in links:
        table.add_row(link.name, link.recorded[:16], link.found[:16], "same" if link.same else "DIFFERENT")
    console(json).print(table)
    same = all(link.same for link in links)
    if json:
        print_json_line({"version": version, "same": same, "links": [link.model_dump() for link in links]})
    return 0 if same else 1
