"""tokka hook, trigger, compare and serve-hooks: from a change in git to a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokka.cli import tables
from tokka.cli.console import Call, command
from tokka.errors import TokkaError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from tokka.triggers.hooks import Hook

app = typer.Typer()
hook = typer.Typer(no_args_is_help=True, help="`git push` retrains: hooks, the worker, the secret of webhooks.")
app.add_typer(hook, name="hook")
Place = Annotated[Path | None, typer.Argument(help="A repository, bare or not; by default the project's own.")]
Name = Annotated[str, typer.Option(help="Its name in triggers.repositories; found by its path otherwise.")]
SHOWN = 20


@command(hook, without=("overrides",))
def install(call: Call, repository: Place = None, name: Name = "") -> None:
    """Write the hooks that tell the worker of each push, in milliseconds; hooks that are there go on being called.

    What the branches hold now counts as known: the next change retrains.

    Example: `tokka hook install` or `tokka hook install /srv/git/helpdesk.git --name team/helpdesk`
    """
    from tokka.deployment.record.connection import RecordDatabase
    from tokka.triggers import commits, decision, hooks
    from tokka.triggers.git import tips
    from tokka.triggers.queue import Queue

    place = (repository or call.settings.root).resolve()
    known = commits.repositories(call.params, call.settings)
    roots = {(call.settings.root / one.url).resolve(): one for one in known.values()}
    paths = roots | {root / one.folder: one for root, one in roots.items()}
    name = name or (paths[place].name if place in paths else "")
    if name not in known:
        what = f"{name or place} is none of triggers.repositories, whose pushes count"
        raise UsageError(what, f"add to them in params.yaml: - {{name: NAME, url: {place}}}")
    found = hooks.install(place, name, hooks.spool(call.settings))
    there = {ref: tip for ref, tip in tips(str(place), place).items() if decision.allows(known[name], ref)}
    Queue(RecordDatabase(call.settings.record_url)).begin(name, there)
    worker = "the stack's worker" if call.params.triggers.worker == "stack" else "`tokka hook work`"
    call.conclude(_told(found), _hooks(found), f"Pushes to {name} are taken by {worker}.")


@command(hook, without=("params", "overrides"))
def uninstall(call: Call, repository: Place = None) -> None:
    """Take the hooks away, and put those back that were there before.

    Example: `tokka hook uninstall`
    """
    from tokka.triggers import hooks

    found = hooks.uninstall((repository or call.settings.root).resolve())
    call.conclude(_told(found), _hooks(found))


@command(hook, without=("overrides",))
def status(call: Call, repository: Place = None) -> None:
    """Show which hooks are there, and what became of the newest pushes.

    Example: `tokka hook status`
    """

    from tokka.deployment.record.connection import RecordDatabase
    from tokka.triggers import asking, commits, hooks
    from tokka.triggers.queue import Queue

    known = commits.repositories(call.params, call.settings)
    places = [repository.resolve()] if repository else [call.settings.root / one.url for one in known.values()]
    found = [one for place in places if place.is_dir() for one in hooks.status(place.resolve())]
    pushes = tables.table("push", "branch", "state", "why")
    queue = Queue(RecordDatabase(call.settings.record_url))
    entries, under_way = queue.newest(SHOWN), queue.under_way()
    entries = [entry._replace(reason=asking.reason(entry, under_way)) for entry in entries]
    for entry in entries:
        branch = f"{entry.push.repository} {entry.push.ref.removeprefix('refs/heads/')}"
        pushes.add_row(entry.push.after[:12], branch, entry.state, entry.reason)
    told = [{**entry.push.model_dump(), **entry._asdict(), "push": None} for entry in entries]
    call.conclude({**_told(found), "pushes": told}, _hooks(found), pushes if entries else "nothing was pushed yet")


@command(hook, without=("overrides",))
def work(
    call: Call,
    once: Annotated[bool, typer.Option("--once", help="What waits now, then stop.")] = False,
) -> None:
    """Take what was pushed and start one run per content, here or on Kubeflow, as params.yaml says under `triggers`.

    It also looks at the branches themselves, for hooks that were missed. Ctrl-C stops it, and the next one goes on.

    Example: `tokka hook work` or `tokka hook work --once`
    """
    from tokka.processes import json_log
    from tokka.triggers import worker

    json_log.start("triggers")
    if once:
        count = worker.Worker(call.settings, call.params).run(once=True)
        call.conclude({"decided": count}, f"{count} pushes were decided on: `tokka hook status` shows how")
    else:
        worker.work(worker.Worker(call.settings, call.params))


@command(hook, without=("params", "overrides"))
def secret(
    call: Call,
    new: Annotated[bool, typer.Option("--new", help="Make one; the one before it holds until the next.")] = False,
) -> None:
    """Make the secret that GitHub, GitLab or Gitea sign webhooks with, or show where it stands.

    Example: `tokka hook secret --new`
    """
    from tokka.triggers.receiver import new_secret, read_secrets, secret_file

    path = secret_file(call.settings)
    made = new_secret(path) if new else ""
    count = len(read_secrets(path))
    call.conclude({"path": str(path), "secrets": count, **({"secret": made} if made else {})}, f"{path}: {count} hold")
    if made and not call.as_json:
        print(made)


@command(app, without=("overrides", "json"))
def serve_hooks(call: Call) -> None:
    """Take webhooks of GitHub, GitLab and Gitea at http://TOKKA_HOST:PORT/hooks, with PORT = triggers.port.

    Each is to be signed by the secret of `tokka hook secret`, and of a repository and branch of triggers.repositories.

    Example: `TOKKA_HOST=0.0.0.0 tokka serve-hooks`
    """
    import asyncio

    from tokka.deployment.record.connection import RecordDatabase
    from tokka.processes import json_log
    from tokka.triggers import commits, receiver
    from tokka.triggers.queue import Queue

    json_log.start("hooks")
    path = receiver.secret_file(call.settings)
    receiver.read_secrets(path)
    known = commits.repositories(call.params, call.settings)
    queue = Queue(RecordDatabase(call.settings.record_url))
    app_ = receiver.application(queue, known, call.params.triggers, path)
    asyncio.run(receiver.serve(app_, call.settings.host, call.params.triggers.port))


@command(app, without=("overrides",))
def trigger(
    call: Call,
    before: Annotated[str, typer.Option(help="The commit before; none: what is known of the branch.")] = "",
    after: Annotated[str, typer.Option(help="The commit to decide on.")] = "HEAD",
    ref: Annotated[str, typer.Option(help="Its branch; by default the one that is checked out.")] = "",
    dry: Annotated[bool, typer.Option("--dry-run", help="Decide, and start nothing.")] = False,
) -> int:
    """Decide from git whether to retrain, and start it, once per content; what CI calls after a push.

    With --before and --dry-run it compares any two commits of the project's repository.

    Example: `tokka trigger --before HEAD~1 --dry-run`
    """
    from tokka.triggers import asking

    asked = asking.ask(call.settings, call.params, before=before, after=after, ref=ref, dry=dry)
    lines = [f"{asked['state']}: {asked['reason']}", *(f"  {change}" for change in asked["changes"])]
    call.conclude(asked, *lines)
    if asked["state"] == "failed":
        raise TokkaError(asked["reason"], "logs/git-*.log in TOKKA_HOME has what the run wrote")
    return 3 if asked["state"] == "refused" or asked["verdict"] in ("refuse", "rolled_back", "held") else 0


@command(app)
def compare(
    call: Call,
    rows: Annotated[int, typer.Option(min=0, help="Train on so many of the rows; 0: on all.")] = 1000,
    before: Annotated[str, typer.Option(help="The commit that the change is against, to say what changed.")] = "",
    out: Annotated[Path, typer.Option(help="Where to write the table, as Markdown.")] = Path("build/comparison.md"),
    folder: Annotated[Path, typer.Option(help="Where it works.")] = Path("build/compare"),
) -> int:
    """Validate, train on a slice, evaluate, and write what it comes to as a table for a pull request.

    Nothing is registered or rolled out. Exit 3 when the gate, or an expectation, would refuse it.

    Example: `tokka compare --before origin/main --rows 1000 --set finetuning.epochs=1`
    """
    from tokka.files import write_text
    from tokka.triggers import asking, comparison

    asked = asking.ask(call.settings, call.params, before=before, dry=True) if before else None
    found = comparison.compare(call.params, call.settings, rows, folder.resolve())
    told = asked or {"changes": [], "commit": "", "key": ""}
    text = comparison.markdown(found, changes=told["changes"], commit=told["commit"], rows=rows, key=told["key"])
    write_text(out.resolve(), text)
    call.conclude({"verdict": found.verdict, "reasons": found.reasons, "comment": str(out)}, text)
    return 0 if found.verdict == "pass" else 3


def _told(found: "list[Hook]") -> dict[str, object]:
    return {"hooks": [one.model_dump() for one in found]}


def _hooks(found: "list[Hook]") -> "Table":

    shown = tables.table("hook", "state", "file")
    for one in found:
        shown.add_row(one.name, one.state, one.path)
    return shown
