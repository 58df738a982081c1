"""tokka review: what can be done in the MLflow UI, and the labels that a running shadow wants, from a terminal."""

import csv
import getpass
import json as json_format
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokka.cli import tables
from tokka.cli.console import (
    DEFAULT_PARAMS,
    Json,
    Overrides,
    ParamsFile,
    conclude,
    console,
    load,
    print_json_line,
    progress,
)
from tokka.errors import UsageError


def _me() -> str:
    """Who is logged in; "" in a container whose user has no name: then --reviewer has to say it."""
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
SHOWN_LABELS = 30
Answers = Annotated[
    Path | None, typer.Option("--answers", help='A CSV file with the columns id and label, or JSON {"id": "label"}.')
]
Given = Annotated[list[str] | None, typer.Option("--set", help="One answer as ID=LABEL. Repeatable.")]


@app.command(name="list")
def list_(params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None, json: Json = False) -> None:
    """List every version with its aliases, gate and review.

    Example: `tokka review list`
    """
    from tokka.registry.review import list_versions

    parsed, settings = load(params, overrides)
    rows = list_versions(parsed, settings)
    shown = tables.table(*SHOWN)
    for row in rows:
        cells = {**row, "aliases": ", ".join(row["aliases"])}
        shown.add_row(*(escape(str(cells[name])) for name in SHOWN))
    conclude(json, {"versions": rows}, shown if rows else "no version yet: `tokka run` makes one")


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
    tags = (f"{name} = {value}" for name, value in sorted(found["tags"].items()))
    conclude(json, found, found["description"], *tags, markup=False)


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
    final: tables.Facts = {"version": version, "review": "approved", "gate": None, "canary": None}
    if start:
        with progress(out, settings) as shown:
            run_id = review.show_version(version, parsed, settings)["run_id"]
            final = execute(Request(params=parsed, pipeline="rollout", run_id=run_id), settings, shown)
        out.print(tables.verdict_line("canary", final["canary"]))
    conclude(json, final)
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
    conclude(json, {"version": version, "review": "refused"}, f"version {version} is refused by {reviewer}")


@app.command()
def labels(
    params: ParamsFile = DEFAULT_PARAMS, answers: Answers = None, given: Given = None, json: Json = False
) -> None:
    """Label the messages on which champion and challenger disagree, while a shadow waits for it.

    In a terminal it asks one after the other: 1 for the champion's answer, 2 for the challenger's, another label in
    full, Enter to leave one out, q to stop. The beginning of an id will do where it is the only one.

    Example: `tokka review labels --set 5f1c=refund --set 07ab=card_arrival`
    """
    from tokka.deployment import label_requests as wanted_labels

    parsed, settings = load(params, None)
    out = console(json)
    wanted = wanted_labels.read(settings, parsed)
    found = {**(read_answers(answers) if answers else {}), **dict(_pair(text) for text in given or ())}
    if not found and wanted and not json and sys.stdin.isatty():
        found = ask(wanted, out)
    else:
        out.print(_labels_table(wanted) if wanted else "no label is wanted: no shadow runs, or it knows enough")
    written = wanted_labels.answer(settings, parsed, found) if found else 0
    if written:
        out.print(f"{written} labels written; the judge reads them at its next look")
    if json:
        print_json_line({"wanted": wanted_labels.read(settings, parsed), "written": written})


def read_answers(path: Path) -> dict[str, str]:
    """Answers by id out of a file.

    Raises:
        UsageError: it cannot be read as the one or the other format.
    """
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return {str(name): str(label) for name, label in dict(json_format.loads(content)).items()}
        rows = csv.DictReader(content.splitlines())
        if not {"id", "label"} <= set(rows.fieldnames or ()):
            raise KeyError("id, label")
        return {row["id"]: row["label"] for row in rows if row["label"]}
    except (OSError, ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        hint = 'write a CSV file with the columns id and label, or JSON such as {"5f1c…": "refund"}'
        raise UsageError(f"{path} holds no answers: {type(error).__name__} {error}", hint) from None


def ask(wanted: list[dict[str, str]], out: Console) -> dict[str, str]:
    """One question per disagreement."""
    found: dict[str, str] = {}
    for number, entry in enumerate(wanted, start=1):
        out.print(f"\n{number} of {len(wanted)}: {_text(entry)}", markup=False)
        out.print(f"  1 {entry['champion']}   2 {entry['challenger']}", markup=False)
        said = input("label: ").strip()
        if said == "q":
            break
        if said:
            found[entry["id"]] = {"1": entry["champion"], "2": entry["challenger"]}.get(said, said)
    return found


def _pair(text: str) -> tuple[str, str]:
    name, equals, label = text.partition("=")
    if not name or not equals or not label:
        raise UsageError(f"--set {text!r} is no answer", "for example: --set 5f1c=refund")
    return name, label


def _labels_table(wanted: list[dict[str, str]]) -> Table:
    shown = tables.table("id", "text", "champion", "challenger", title=f"{len(wanted)} labels are wanted")
    for entry in wanted[:SHOWN_LABELS]:
        shown.add_row(*map(escape, (entry["id"], _text(entry), entry["champion"], entry["challenger"])))
    return shown


def _text(entry: Mapping[str, str]) -> str:
    return " | ".join(part for part in (entry["text"], entry["text_pair"]) if part)
