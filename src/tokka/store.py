"""Finished step outputs by key, verified byte for byte before they are used again.

    store = StepStore(settings.home / "store")
    if not store.fetch("finetune", key, into=folder):
        train(folder); store.save("finetune", key, folder)

Neither kfp's local cache nor DVC's read-only cache notices a file that changed on disk; this one does.
"""

import shutil
import tempfile
from pathlib import Path

from tokka import files
from tokka.errors import TokkaError


class StepStore:
    """Sealed folders under `root/<step>/<key>`; an entry that does not verify is thrown away, not used."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fetch(self, step: str, key: str, into: Path) -> bool:
        """Copy the output that `key` made into a folder; False when there is none that verifies."""
        entry = self.root / step / key
        if not (entry / files.MANIFEST).is_file():
            return False
        try:
            files.verify(entry)
        except TokkaError:
            shutil.rmtree(entry)
            return False
        shutil.copytree(entry, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns(files.MANIFEST))
        return True

    def save(self, step: str, key: str, folder: Path) -> str:
        """Keep a finished folder under its key and return its digest."""
        (self.root / step).mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=self.root / step, prefix=".staging-"))
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        digest = files.seal(staging)
        files.publish_folder(staging, self.root / step / key)
        return digest

    def workspace(self, step: str, key: str) -> Path:
        """A folder that outlives a kill, for checkpoints of the step that works on `key`."""
        folder = self.root / step / f".work-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def discard_workspace(self, step: str, key: str) -> None:
        """Remove the checkpoints once the output is saved."""
        shutil.rmtree(self.root / step / f".work-{key}", ignore_errors=True)
