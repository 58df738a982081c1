"""`tokka trigger`: one push of the project's own repository, decided on here and now."""

import contextlib

from tokka.errors import TokkaError, UsageError
from tokka.files import JsonObject
from tokka.params import Params
from tokka.sections_serving import Repository
from tokka.settings import Settings
from tokka.triggers.commits import own as repository_of
from tokka.triggers.commits import repositories
from tokka.triggers.decision import HEADS, Facts, Push, decide
from tokka.triggers.git import Clone
from tokka.triggers.queue import Entry
from tokka.triggers.runner import Start
from tokka.triggers.worker import Worker


def ask(
    settings: Settings, params: Params, *,
    before: str = "", after: str = "HEAD", ref: str = "", dry: bool = False, start: Start | None = None,
) -> JsonObject:  # fmt: skip
    """Decide on a commit of the project's repository, and start its run unless `dry`: what became of it, as plain data.

    UsageError when a revision is none, or no branch is checked out or named; TokkaError when it cannot be fetched.
    """
    repository = own(settings, params)
    here = Clone(settings.root, repository.folder)
    after, before = _commit(here, after), _commit(here, before) if before else ""
    worker = Worker(settings, params, start)
    worker.known[repository.name] = repository
    if dry:
        known = worker.queue.heads(repository.name).get(_branch(here, ref)) if not before else None
        return _dry(worker, here, known.decided if known else before, after)
    push = Push(repository=repository.name, ref=_branch(here, ref), before=before, after=after, source="person")
    worker.queue.put(push)
    # Where another one works, that one takes this push as well.
    with contextlib.suppress(TokkaError):
        worker.run(once=True)
    return told(worker.queue.find(push), worker.queue.under_way())


def own(settings: Settings, params: Params) -> Repository:
    """The project's repository as params.yaml names it, at its place on this machine."""
    known = repositories(params, settings)
    here = [one for one in known.values() if (settings.root / one.url / one.folder).resolve() == settings.root]
    found = here or list(known.values())
    if len(found) > 1:
        raise UsageError("triggers.repositories names several, and none at this folder", "name this one with url: .")
    there = repository_of(settings)
    return found[0].model_copy(update={"url": there.url, "folder": there.folder})


def told(entry: Entry | None, under_way: Entry | None = None) -> JsonObject:
    """What became of a push, as plain data; `under_way` is the push whose run goes on, for which others wait."""
    if entry is None:
        raise TokkaError("the push is not in the queue", "`tokka hook status` shows what is")
    result = entry.result
    return {
        "state": entry.state, "reason": reason(entry, under_way), "key": entry.key, "commit": entry.push.after,
        "changes": result.get("changes") or [], "verdict": result.get("verdict"), "result": result,
    }  # fmt: skip


def reason(entry: Entry, under_way: Entry | None) -> str:
    """Why a push is where it is, in words."""
    if entry.state != "queued" or entry.reason or under_way is None:
        return entry.reason
    other = under_way.push
    return f"it waits for the run of {other.after[:12]} of {other.repository}, which goes on: one at a time"


def _dry(worker: Worker, here: Clone, before: str, after: str) -> JsonObject:
    commits = worker.commits
    try:
        facts = Facts(before=commits.before(here, before), after=commits.content(here, after))
    except UsageError as error:
        facts = Facts(fault=error.message)
    found = decide(facts)
    state = "would start" if found.verdict == "start" else found.verdict
    return {
        "state": state, "reason": found.reason, "key": found.key, "commit": after, "changes": found.changes,
        "verdict": None, "result": {},
    }  # fmt: skip


def _commit(here: Clone, revision: str) -> str:
    try:
        return here.git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").strip()
    except TokkaError as error:
        raise UsageError(f"{revision!r} is no commit of {here.folder}: {error.message}", "git log shows them") from None


def _branch(here: Clone, ref: str) -> str:
    if ref:
        return ref if ref.startswith("refs/") else f"{HEADS}{ref}"
    try:
        return here.git("symbolic-ref", "--quiet", "HEAD").strip()
    except TokkaError:
        raise UsageError("no branch is checked out", "name it: --ref main") from None
