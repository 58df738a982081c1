"""tokka review labels: answer what the judge of a running rollout wants to know."""

import csv
import json as json_format
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokka.cli.console import DEFAULT_PARAMS, Json, ParamsFile, console, load, print_json_line
from tokka.errors import UsageError

SHOWN = 30
Answers = Annotated[
    Path | None, typer.Option("--answers", help='A CSV file with the columns id and label, or JSON {"id": "label"}.')
]
Given = Annotated[list[str] | None, typer.Option("--set", help="One answer as ID=LABEL. Repeatable.")]


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
        out.print(_table(wanted) if wanted else "no label is wanted: no shadow runs, or it knows enough")
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


def ask(wanted: list[dict[str, Any]], out: Console) -> dict[str, str]:
    """One question per disagreement."""
    found: dict[str, str] = {}
    for number, entry in enumerate(wanted, start=1):
        text = " | ".join(part for part in (entry["text"], entry["text_pair"]) if part)
        out.print(f"\n{number} of {len(wanted)}: {text}", markup=False)
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


def _table(wanted: list[dict[str, Any]]) -> Table:
    table = Table("id", "text", "champion", "challenger", box=None, pad_edge=False)
    table.title, table.title_justify = f"{len(wanted)} labels are wanted", "left"
    for entry in wanted[:SHOWN]:
        text = " | ".join(part for part in (entry["text"], entry["text_pair"]) if part)
        table.add_row(*map(escape, (entry["id"], text, entry["champion"], entry["challenger"])))
    return table
