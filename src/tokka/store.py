"""Finished step outputs by key, verified byte for byte before they are used again.

Neither kfp's local cache nor DVC's read-only cache notices a file that changed on disk; this one does.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokka import files
from tokka.errors import TokkaError


class StepStore:
    """Sealed folders under `root/<step>/<key>`; an entry that does not verify is thrown away, not used."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, step: str, key: str) -> Path | None:
        """The output that `key` made, for reading; None when there is none that verifies."""
        entry = self.root / step / key
        if not (entry / files.MANIFEST).is_file():
            return None
        try:
            files.verify(entry)
        except TokkaError:
            shutil.rmtree(entry)
            return None
        return entry

    def fetch(self, step: str, key: str, into: Path) -> bool:
        """Copy the output that `key` made into a folder; False when there is none that verifies."""
        if entry := self.find(step, key):
            shutil.copytree(entry, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns(files.MANIFEST))
        return entry is not None

    @contextmanager
    def entry(self, step: str, key: str) -> Iterator[Path]:
        """An empty folder, which is kept under `key` when the block has ended without an error."""
        (self.root / step).mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=self.root / step, prefix=".staging-"))
        try:
            yield staging
            files.seal(staging)
            files.publish_folder(staging, self.root / step / key)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def save(self, step: str, key: str, folder: Path) -> None:
        """Keep a finished folder under its key."""
        with self.entry(step, key) as staging:
            shutil.copytree(folder, staging, dirs_exist_ok=True)

    def workspace(self, step: str, key: str) -> Path:
        """A folder that outlives a kill, for checkpoints of the step that works on `key`."""
        folder = self.root / step / f".work-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def discard_workspace(self, step: str, key: str) -> None:
        """Remove the checkpoints once the output is saved."""
        shutil.rmtree(self.root / step / f".work-{key}", ignore_errors=True)
