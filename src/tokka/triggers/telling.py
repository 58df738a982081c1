"""What came of a push, told where it was made: a git note on the commit (refs/notes/tokka) and a commit status.

Commit statuses as GitHub, GitLab and Gitea take them:
https://docs.github.com/rest/commits/statuses, https://docs.gitlab.com/api/commits/,
https://docs.gitea.com/api (repoCreateStatus).
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tokka.errors import TokkaError
from tokka.notifications import Event
from tokka.sections_serving import Repository
from tokka.triggers.queue import Entry

CONTEXT = "tokka/retraining"
DESCRIBED = 140
TIMEOUT_S = 15.0
# Of our states and verdicts, the word of a commit status; what was ignored or is made is nothing against a commit.
GOOD, BAD = "success", "failure"
WORDS = {"started": "pending", "queued": "pending", "done": GOOD, "ignored": GOOD, "refused": BAD, "failed": "error"}
GITLAB = {"pending": "running", GOOD: "success", BAD: "failed", "error": "failed"}
AGAINST = ("refuse", "rolled_back", "held", "failed")


def word(entry: Entry) -> str:
    """pending, success, failure or error."""
    verdict = entry.result.get("verdict")
    return BAD if entry.state == "done" and verdict in AGAINST else WORDS[entry.state]


def summary(entry: Entry) -> str:
    """One line: what became of a push, and why."""
    verdict, version = entry.result.get("verdict"), entry.result.get("version")
    if entry.state not in ("done", "started"):
        return f"{entry.state}: {entry.reason}"
    made = f", version {version}" if version and entry.state == "done" else ""
    return f"retraining {verdict}{made}: {entry.reason}"


def note(entry: Entry) -> str:
    """The text of a commit's note: a line, and what was found by name."""
    result = entry.result
    names = ("run_id", "version", "data_digest", "model_digest", "link", "report")
    facts = {
        "commit": entry.push.after,
        "branch": entry.push.ref,
        "content key": entry.key,
        "run key": result.get("key"),
    }
    facts |= {name.replace("_", " "): result.get(name) for name in names}
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    reasons = [f"  - {reason}" for reason in result.get("reasons") or ()]
    return "\n".join([f"tokka: {summary(entry)}", *lines, *(["reasons:", *reasons] if reasons else [])]) + "\n"


def not_retrained(entry: Entry, reason: str, endpoint: str) -> Event:
    """What people are told of a push that starts nothing."""
    branch = entry.push.ref.removeprefix("refs/heads/")
    what = f"{entry.push.after[:12]} was pushed to {branch} of {entry.push.repository}, and starts no retraining."
    subject = f"git/{entry.push.identity[:32]}/{entry.received:.3f}"
    return Event("not_retrained", endpoint, subject, what, (reason,), details=entry.push.model_dump())


def token(repository: Repository) -> str:
    """The token of a repository's host, from its variable or the file that its variable with _FILE names."""
    path = os.environ.get(f"{repository.token_variable}_FILE")
    try:
        found = Path(path).read_text(encoding="utf-8") if path else os.environ.get(repository.token_variable, "")
    except OSError as error:
        what = f"{repository.token_variable}_FILE={path} cannot be read: {error.strerror}"
        raise TokkaError(what, "mend the path, or its owner") from None
    if not found.strip():
        what = f"there is no token for commit statuses of {repository.name}: {repository.token_variable} is not set"
        raise TokkaError(
            what, f"set it, or {repository.token_variable}_FILE, where `tokka hook work` runs; or host: none"
        )
    return found.strip()


def request(repository: Repository, entry: Entry, token: str) -> dict[str, Any]:
    """The request that sets a commit's status, as httpx takes it."""
    state, link = word(entry), str(entry.result.get("link") or "")
    body = {"description": summary(entry)[:DESCRIBED], "context": CONTEXT}
    # A status wants an address that others can open, and an SQLite file is none.
    body |= {"target_url": link} if link.startswith(("http://", "https://")) else {}
    api, commit = str(repository.api).rstrip("/"), entry.push.after
    if repository.host == "gitlab":
        url = f"{api}/projects/{quote(repository.name, safe='')}/statuses/{commit}"
        named = {"name": body.pop("context"), "state": GITLAB[state], "ref": entry.push.ref.removeprefix("refs/heads/")}
        return {"url": url, "json": body | named, "headers": {"PRIVATE-TOKEN": token}}
    kind = "Bearer" if repository.host == "github" else "token"
    url = f"{api}/repos/{quote(repository.name)}/statuses/{commit}"
    return {"url": url, "json": {**body, "state": state}, "headers": {"Authorization": f"{kind} {token}"}}


def set_status(repository: Repository, entry: Entry) -> None:
    """Set the status of a commit; TokkaError when the host does not take it."""
    import httpx

    if repository.host == "none":
        return
    try:
        answer = httpx.post(**request(repository, entry, token(repository)), timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        what = f"{repository.host} at {repository.api} did not answer: {type(error).__name__}"
        raise TokkaError(what, "it is tried again") from None
    # GitLab refuses the state that a commit has already.
    if answer.is_error and not (repository.host == "gitlab" and "Cannot transition" in answer.text):
        what = f"{repository.host} at {repository.api} did not take a commit status: {answer.status_code}"
        raise TokkaError(what, "it needs a token that may set commit statuses of this repository")
