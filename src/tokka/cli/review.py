"""tokka review: what can be done in the MLflow UI, and the labels that a running shadow wants, from a terminal."""

import csv
import getpass
import json as json_format
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tokka.cli import tables
from tokka.cli.console import Call, command, progress
from tokka.errors import UsageError
from tokka.files import Tree


def _me() -> str:
    """Who is logged in; "" in a container whose user has no name: then --reviewer has to say it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


app = typer.Typer(no_args_is_help=True, help="Look at registry versions, approve or refuse them.")
SHOWN = ("version", "verdict", "gate", "aliases", "reviewer", "comment", "reason")
ME = _me()
Version = Annotated[str, typer.Argument(help="The registry version's number.")]
Comment = Annotated[str, typer.Option("--comment", help="Why; it is kept with the version.")]
Reviewer = Annotated[str, typer.Option("--reviewer", help="Who decides.")]
SHOWN_LABELS = 30
Answers = Annotated[
    Path | None, typer.Option("--answers", help='A CSV file with the columns id and label, or JSON {"id": "label"}.')
]
Given = Annotated[list[str] | None, typer.Option("--set", help="One answer as ID=LABEL. Repeatable.")]


@command(app, "list")
def list_(call: Call) -> None:
    """List every version with its aliases, gate and review.

    Example: `tokka review list`
    """
    from tokka.deployment.review.versions import list_versions

    rows = list_versions(call.params, call.settings)
    shown = tables.table(*SHOWN)
    for row in rows:
        reason = "; ".join(filter(None, (row["reason"], row["request"])))
        cells = {**row, "aliases": ", ".join(row["aliases"]), "reason": reason}
        shown.add_row(*(str(cells[name]) for name in SHOWN))
    call.conclude({"versions": rows}, shown if rows else "no version yet: `tokka run` makes one")


@command(app)
def show(call: Call, version: Version) -> None:
    """Show a version's model card, the forecast of its rollout, who decided what, and its tags.

    Example: `tokka review show 2`
    """
    from tokka.deployment.review.forecast import lines
    from tokka.deployment.review.versions import show_version
    from tokka.steps.register import look_ahead

    found = show_version(version, call.params, call.settings)
    tags = (f"{name} = {value}" for name, value in sorted(found["tags"].items()))
    standing = f"review: {found['verdict']}, {found['reason']}"
    asked = [f"request: {found['request']}"] if found["request"] else []
    ahead = look_ahead(call.params, call.settings)
    whole = {**found, "forecast": ahead.as_dict()}
    call.conclude(whole, found["description"], *lines(ahead), standing, *asked, *found["problems"], *tags)


@command(app)
def audit(call: Call, version: Version) -> None:
    """Show who decided on a version, when, and by the digest of which evidence.

    Example: `tokka review audit 2`
    """
    from tokka.deployment.review.versions import show_version

    found = show_version(version, call.params, call.settings)
    names = ("evidence", "model", "champion")
    shown = tables.table("time", "verdict", "who", *names, "comment")
    for one in found["reviews"]:
        when = datetime.fromtimestamp(float(str(one["time"])), UTC).isoformat(timespec="seconds")
        how = "by tag" if one["by_tag"] else "in MLflow" if one["in_mlflow"] else "signed"
        who = f"{one['reviewer']} ({how})"
        digests = (str(one[f"{name}_digest"])[:12] or "none" for name in names)
        shown.add_row(when, str(one["verdict"]), who, *digests, str(one["comment"]))
    trail = {name: found[name] for name in ("version", "verdict", "reason", "evidence", "reviews", "problems")}
    lines = (f"version {version}: {found['verdict']}, {found['reason']}", *found["problems"])
    call.conclude(trail, shown if found["reviews"] else "nobody has decided on it", *lines)


@command(app, without=("overrides",))
def key(call: Call, reviewer: Reviewer = ME) -> None:
    """Show your public key, for `review.approvers` in params.yaml; it is made on first use.

    Example: `tokka review key --reviewer ana`
    """
    from tokka.deployment.review.signatures import public_key

    found = public_key(reviewer, call.settings)
    call.conclude({"reviewer": reviewer, "key": found}, f"{reviewer}: {found}")


@command(app)
def approve(
    call: Call,
    version: Version,
    comment: Comment = "",
    reviewer: Reviewer = ME,
    start: Annotated[bool, typer.Option("--rollout/--no-rollout", help="Start its canary at once.")] = True,
) -> int:
    """Approve a version, signed with your own key, and start its canary.

    Example: `tokka review approve 2 --comment "looked at the slices"`
    """
    from tokka.cli.run import EXIT_REFUSED, was_refused
    from tokka.deployment.review import versions
    from tokka.runs.execute import Request, execute

    params, settings, out = call.params, call.settings, call.out
    versions.decide("approved", version, reviewer, comment, params, settings)
    out.print(f"version {version} is approved by {reviewer}")
    final: Tree = {"version": version, "review": "approved", "gate": None, "canary": None}
    if start:
        with progress(out, settings) as shown:
            run_id = versions.show_version(version, params, settings)["run_id"]
            final = execute(Request(params=params, pipeline="rollout", run_id=run_id), settings, shown)
        out.print(tables.verdict_line("canary", final["canary"]))
    call.conclude(final)
    return EXIT_REFUSED if was_refused(final) else 0


@command(app)
def evaluate(call: Call, version: Version) -> int:
    """Evaluate a version again, with the champion that serves now; what passes is a new version that waits.

    Nothing is trained. A running stack does it by itself for what waits when the champion has moved.

    Example: `tokka review evaluate 3`
    """
    from tokka.cli.run import EXIT_REFUSED, was_refused
    from tokka.runs.execute import execute
    from tokka.runs.reproduce import request_again

    request = request_again(version, call.params, call.settings)
    with progress(call.out, call.settings) as shown:
        final = execute(request, call.settings, shown)
    made, gate = final["version"], tables.verdict_line("gate", final["gate"])
    call.conclude(final, gate, f"version {made} is that model with its new evidence" if made else "no new version")
    return EXIT_REFUSED if was_refused(final) else 0


@command(app)
def refuse(call: Call, version: Version, comment: Comment, reviewer: Reviewer = ME) -> None:
    """Refuse a version, signed with your own key: its model will never be served, under no number.

    Example: `tokka review refuse 3 --comment "confuses refunds with cancellations"`
    """
    from tokka.deployment.review import versions

    versions.decide("refused", version, reviewer, comment, call.params, call.settings)
    call.conclude({"version": version, "review": "refused"}, f"version {version} is refused by {reviewer}")


@command(app, without=("overrides",))
def labels(call: Call, answers: Answers = None, given: Given = None) -> None:
    """Label the messages on which champion and challenger disagree, while a shadow waits for it.

    In a terminal it asks one after the other: 1 for the champion's answer, 2 for the challenger's, another label in
    full, Enter to leave one out, q to stop. The beginning of an id will do where it is the only one.

    Example: `tokka review labels --set 5f1c=refund --set 07ab=card_arrival`
    """
    from tokka.deployment import label_requests as wanted_labels

    params, settings, out = call.params, call.settings, call.out
    wanted = wanted_labels.read(settings, params)
    found = {**(read_answers(answers) if answers else {}), **dict(_pair(text) for text in given or ())}
    if not found and wanted and not call.as_json and sys.stdin.isatty():
        found = ask(wanted, out)
    else:
        out.print(_labels_table(wanted) if wanted else "no label is wanted: no shadow runs, or it knows enough")
    written = wanted_labels.answer(settings, params, found) if found else 0
    if written:
        out.print(f"{written} labels written; the judge reads them at its next look")
    call.conclude({"wanted": wanted_labels.read(settings, params), "written": written})


def read_answers(path: Path) -> dict[str, str]:
    """Answers by id out of a file; UsageError when it cannot be read as the one or the other format."""
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
        out.print(f"\n{number} of {len(wanted)}: {_text(entry)}")
        out.print(f"  1 {entry['champion']}   2 {entry['challenger']}")
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
        shown.add_row(entry["id"], _text(entry), entry["champion"], entry["challenger"])
    return shown


def _text(entry: Mapping[str, str]) -> str:
    return " | ".join(part for part in (entry["text"], entry["text_pair"]) if part)
