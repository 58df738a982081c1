"""The hooks of a repository, a few lines of shell that write what was pushed into a folder, and who reads it there.

They never hold a push up, nor fail one. A hook that is there already is kept beside and called after ours, with the
same input and its own exit code.
"""

import logging
import os
import shlex
from pathlib import Path

from pydantic import BaseModel

from tokka.errors import TokkaError, UsageError
from tokka.settings import Settings
from tokka.triggers.decision import HEADS, Push
from tokka.triggers.git import NOBODY, git, is_commit
from tokka.triggers.queue import Queue

logger = logging.getLogger("tokka.triggers")

# Of one file of a hook, in bytes.
LARGEST = 10_000_000
MARK = "# tokka-hook"
EARLIER = ".before-tokka"
BARE, CHECKOUT = ("post-receive",), ("post-receive", "post-commit", "post-merge", "post-rewrite")
# The lines are written in the background, under another name first: who reads never finds half of them, and a folder
# that hangs, is full or is another user's holds no push up.
SCRIPT = """#!/bin/sh
{mark} Written by `tokka hook install`; `tokka hook uninstall` takes it away. It tells the worker what was pushed.
spool={spool}
earlier="$0{earlier}"
{read}
(
  umask 077
  name=$$-$(date +%s%N)
  printf '%s\\n' {repository} "$pushed" > "$spool/.$name" && mv "$spool/.$name" "$spool/$name.push"
) < /dev/null > /dev/null 2>&1 &
{chain}
exit 0
"""
# git gives post-receive a line for each ref: before, after, ref. Elsewhere the branch is where HEAD is.
READ = {
    "post-receive": (
        "pushed=$(cat)",
        """if [ -x "$earlier" ]; then printf '%s\\n' "$pushed" | "$earlier" "$@"; exit; fi""",
    ),
    "": (
        """pushed="- $(echo $(git rev-parse HEAD --symbolic-full-name HEAD 2> /dev/null))\"""",
        """if [ -x "$earlier" ]; then exec "$earlier" "$@"; fi""",
    ),
}  # fmt: skip


class Hook(BaseModel):
    """One hook of a repository: ours, ours before an earlier one (chained), foreign, or absent."""

    name: str
    path: str
    state: str


def install(repository: Path, name: str, place: Path) -> list[Hook]:
    """Write the hooks of a repository, which pushes are told by `name` in the folder `place`.

    UsageError when it is no repository, TokkaError when its hooks cannot be written.
    """
    folder, names = _place(repository)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for hook in names:
        path = folder / hook
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists() and not _is_ours(path):
                path.replace(_earlier(path))
            _write(path, script(hook, name, place))
        except OSError as error:
            raise _unwritable(path, error) from None
    return status(repository)


def uninstall(repository: Path) -> list[Hook]:
    """Take our hooks away, and put the earlier ones back."""
    folder, names = _place(repository)
    for path in (folder / name for name in names):
        try:
            if _is_ours(path):
                path.unlink()
                if _earlier(path).exists():
                    _earlier(path).replace(path)
        except OSError as error:
            raise _unwritable(path, error) from None
    return status(repository)


def status(repository: Path) -> list[Hook]:
    """What stands where our hooks would."""
    folder, names = _place(repository)
    return [Hook(name=name, path=str(folder / name), state=_state(folder / name)) for name in names]


def script(hook: str, name: str, place: Path) -> str:
    """The text of a hook."""
    read, chain = READ.get(hook, READ[""])
    return SCRIPT.format(
        mark=MARK, spool=shlex.quote(str(place)), earlier=EARLIER, read=read, repository=shlex.quote(name), chain=chain
    )


def _place(repository: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder of a repository's hooks, and which it needs."""
    try:
        if not repository.is_dir():
            raise TokkaError("no such folder")
        # The repository's own setting of core.hooksPath counts.
        bare, folder = git(
            "rev-parse", "--is-bare-repository", "--git-path", "hooks", folder=repository, options=()
        ).splitlines()
    except TokkaError as error:
        what = f"{repository} is no git repository: {error.message}"
        raise UsageError(what, "name one: tokka hook install REPO; `git init` makes one") from None
    return (repository / folder).resolve(), BARE if bare == "true" else CHECKOUT


def _write(path: Path, text: str) -> None:
    """Under another name first: a push may run it meanwhile."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(text, encoding="utf-8")
    staged.chmod(0o755)
    staged.replace(path)


def _earlier(path: Path) -> Path:
    return path.with_name(path.name + EARLIER)


def _is_ours(path: Path) -> bool:
    return path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")


def _state(path: Path) -> str:
    if not path.exists():
        return "absent"
    if not _is_ours(path):
        return "foreign"
    return "chained" if _earlier(path).exists() else "ours"


def _unwritable(path: Path, error: OSError) -> TokkaError:
    return TokkaError(f"{path} cannot be written: {error.strerror}", "run it as the owner of the repository")


def spool(settings: Settings) -> Path:
    """Where the hooks write; only its owner can."""
    return settings.home / "hooks" / "spool"


def drain(place: Path, queue: Queue) -> int:
    """Take what hooks have written into the queue, in that order; how many pushes that were.

    A file is deleted after its pushes are in the database: a crash in between queues the same ones again.
    """
    count = 0
    for path in sorted(place.glob("*.push"), key=_written):
        for push in read(path):
            count += queue.put(push) == "queued"
        path.unlink(missing_ok=True)
    return count


def read(path: Path) -> list[Push]:
    """The branches that a file says were pushed; what cannot be read says nothing."""
    if path.stat().st_size > LARGEST:
        logger.warning("a hook wrote too much: %s is left out", path)
        return []
    name, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    cut = (line.split(" ") for line in lines)
    return [
        Push(repository=name, ref=one[2], before="" if NOBODY.fullmatch(one[0]) else one[0], after=one[1])
        for one in cut
        if len(one) == 3 and one[2].startswith(HEADS) and (is_commit(one[1]) or NOBODY.fullmatch(one[1]))
    ]


def _written(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except FileNotFoundError:
        return 0, path.name
