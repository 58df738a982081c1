"""tokka review: what can be done in the MLflow UI, from a terminal."""

import getpass
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tokka.cli import labels, tables
from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, console, load, print_json_line, progress


def _me() -> str:
    """Who is logged in; nobody in a container whose user has no name: then --reviewer has to say it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


app = typer.Typer(no_args_is_help=True, help="Look at registry versions, approve or refuse them.")
SHOWN = ("version", "verdict", "gate", "aliases", "reviewer", "comment")
ME = _me()
Version = Annotated[str, typer.Argument(help="The registry version's number.")]
Comment = Annotated[str, typer.Option("--comment", help="Why; it is kept with the version.")]
Reviewer = Annotated[str, typer.Option("--reviewer", help="Who decides.")]


def add_to(parent: typer.Typer) -> None:
    """Hang the group on the application."""
    app.command(name="labels")(labels.labels)
    parent.add_typer(app, name="review")


@app.command(name="list")
def list_(params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None, json: Json = False) -> None:
    """List every version with its aliases, gate and review.

    Example: `tokka review list`
    """
    from tokka.registry.review import list_versions

    parsed, settings = load(params, overrides)
    rows = list_versions(parsed, settings)
    table = Table(*SHOWN, box=None, pad_edge=False)
    for row in rows:
        shown = {**row, "aliases": ", ".join(row["aliases"])}
        table.add_row(*(escape(str(shown[name])) for name in SHOWN))
    console(json).print(table if rows else "no version yet: `tokka run` makes one")
    if json:
        print_json_line({"versions": rows})


@app.command()
def show(
    version: Version, params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None, json: Json = False
) -> None:
    """Show a version's model card and tags.

    Example: `tokka review show 2`
    """
    from tokka.registry.review import show_version

    parsed, settings = load(params, overrides)
    found = show_version(version, parsed, settings)
    console(json).print(found["description"], markup=False)
    for name, value in sorted(found["tags"].items()):
        console(json).print(f"{name} = {value}", markup=False)
    if json:
        print_json_line(found)


@app.command()
def approve(
    version: Version,
    comment: Comment = "",
    reviewer: Reviewer = ME,
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    start: Annotated[bool, typer.Option("--rollout/--no-rollout", help="Start its canary at once.")] = True,
    json: Json = False,
) -> int:
    """Approve a version and start its canary.

    Example: `tokka review approve 2 --comment "looked at the slices"`
    """
    from tokka.cli.run import EXIT_REFUSED, was_refused
    from tokka.registry import review
    from tokka.runs.execute import Request, execute

    parsed, settings = load(params, overrides)
    review.approve(version, reviewer, comment, parsed, settings)
    out = console(json)
    out.print(f"version {version} is approved by {reviewer}")
    final: dict[str, Any] = {"version": version, "review": "approved", "gate": None, "canary": None}
    if start:
        with progress(out, settings) as shown:
            run_id = review.show_version(version, parsed, settings)["run_id"]
            final = execute(Request(params=parsed, pipeline="rollout", run_id=run_id), settings, shown)
        out.print(tables.verdict_line("canary", final["canary"]))
    if json:
        print_json_line(final)
    return EXIT_REFUSED if was_refused(final) else 0


@app.command()
def refuse(
    version: Version,
    comment: Comment,
    reviewer: Reviewer = ME,
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Refuse a version; it will not be served.

    Example: `tokka review refuse 3 --comment "confuses refunds with cancellations"`
    """
    from tokka.registry import review

    parsed, settings = load(params, overrides)
    review.refuse(version, reviewer, comment, parsed, settings)
    console(json).print(f"version {version} is refused by {reviewer}")
    if json:
        print_json_line({"version": version, "review": "refused"})
