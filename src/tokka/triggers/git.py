"""Git as the triggers use it: a bare copy of each repository, work trees of single commits, notes.

Nobody's checkout is touched. Hooks of the fetched repository never run, and git never asks a person.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokka import files
from tokka.errors import TokkaError

NOTES = "refs/notes/tokka"
SECONDS = 300.0
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
NOBODY = re.compile(r"0+|-?")
QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    "LC_ALL": "C",
}
# No hook runs, and nothing tidies up in the background.
AT_REST = ("-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0")
AUTHOR = ("-c", "user.name=Tokka", "-c", "user.email=tokka@localhost")


def git(*arguments: str, folder: Path, given: str = "", options: Sequence[str] = AT_REST) -> str:
    """What git prints; TokkaError with its own words when it fails or takes longer than five minutes."""
    # A hook, or a git above, would else say which repository is meant.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *options, "-C", str(folder), *arguments]
    try:
        run = subprocess.run(
            command, input=given, env=kept | QUIET, capture_output=True, text=True, errors="surrogateescape",
            timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TokkaError(f"git {arguments[0]} took more than {SECONDS:g} s", "check the network and the host") from None
    except FileNotFoundError:
        raise TokkaError("git is not on this machine", "install git") from None
    if run.returncode:
        said = " ".join(run.stderr.split()) or f"it ended with {run.returncode}"
        raise TokkaError(f"git {arguments[0]} failed: {said}", "check url and access of triggers.repositories")
    return run.stdout


def is_commit(text: str) -> bool:
    """Whether a text is a commit's id and not the zeros of a branch that is not there."""
    return bool(COMMIT.fullmatch(text)) and not NOBODY.fullmatch(text)


def tips(url: str, folder: Path) -> dict[str, str]:
    """The commits of all branches of a repository, by ref."""
    lines = (line.split("\t") for line in git("ls-remote", "--heads", "--", url, folder=folder).splitlines())
    return {ref: commit for commit, ref in lines}


class Clone:
    """A repository on this machine that is only read; `project` is the folder in it whose files count."""

    def __init__(self, folder: Path, project: str = "") -> None:
        self.folder, self.project = folder, project

    def git(self, *arguments: str) -> str:
        """Git in this repository."""
        return git(*arguments, folder=self.folder)

    def has(self, commit: str) -> bool:
        """Whether a commit is here."""
        return is_commit(commit) and self._holds("cat-file", "-e", f"{commit}^{{commit}}")

    def is_ancestor(self, commit: str, of: str) -> bool:
        """Whether `of` is the commit or comes after it."""
        return self._holds("merge-base", "--is-ancestor", commit, of)

    def blobs(self, commit: str) -> dict[str, str]:
        """The id of every file of the project in a commit, by its path there."""
        entries = self.git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
        cut = (entry.partition("\t") for entry in entries if entry)
        found = {path: about.split()[2] for about, _, path in cut if about.split()[1] == "blob"}
        start = self._path("")
        return {path.removeprefix(start): blob for path, blob in found.items() if path.startswith(start)}

    def text(self, commit: str, path: str) -> str:
        """A file of the project in a commit."""
        return self.git("show", f"{commit}:{self._path(path)}")

    def _path(self, path: str) -> str:
        return f"{self.project}/{path}" if self.project else path

    def _holds(self, *arguments: str) -> bool:
        try:
            self.git(*arguments)
        except TokkaError:
            return False
        return True


class Mirror(Clone):
    """A bare copy of a repository in `home`/git, made at the first use."""

    def __init__(self, home: Path, name: str, url: str, project: str = "") -> None:
        place = home / "git" / f"{re.sub('[^A-Za-z0-9]', '-', name)}-{files.digest_json([name, url])[:8]}"
        super().__init__(place, project)
        self.url = url
        if not (self.folder / "HEAD").exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.git("init", "--quiet", "--bare", ".")

    def tips(self) -> dict[str, str]:
        """The branches as they are there now."""
        return tips(self.url, self.folder)

    def fetch(self, ref: str) -> bool:
        """Bring a branch as it is there now; False when it is not there."""
        if ref not in self.tips():
            return False
        self.git("fetch", "--quiet", "--no-tags", "--force", "--", self.url, f"+{ref}:{_local(ref)}")
        return True

    def is_on(self, commit: str, ref: str) -> bool:
        """Whether a commit is on a branch, as it was fetched last."""
        return self.is_ancestor(commit, _local(ref))

    @contextmanager
    def checkout(self, commit: str) -> Iterator[Path]:
        """The project in a work tree of a commit, for as long as the block runs."""
        place = self.folder / "trees" / commit[:16]
        shutil.rmtree(place, ignore_errors=True)
        self.git("worktree", "prune")
        self.git("worktree", "add", "--quiet", "--force", "--detach", str(place), commit)
        try:
            yield place / self.project
        finally:
            shutil.rmtree(place, ignore_errors=True)
            self.git("worktree", "prune")

    def note(self, commit: str, text: str) -> None:
        """Write the note of a commit and push it; one that others have pushed meanwhile is fetched, and tried again."""
        for last in (False, False, True):
            try:
                if NOTES in self.git("ls-remote", "--", self.url, NOTES):
                    self.git("fetch", "--quiet", "--force", "--", self.url, f"+{NOTES}:{NOTES}")
                words = ("notes", "--ref", NOTES, "add", "--force", "--file", "-", commit)
                git(*words, folder=self.folder, given=text, options=(*AT_REST, *AUTHOR))
                self.git("push", "--quiet", "--", self.url, f"{NOTES}:{NOTES}")
                return
            except TokkaError:
                if last:
                    raise


def _local(ref: str) -> str:
    return f"refs/tokka/{ref.removeprefix('refs/')}"
