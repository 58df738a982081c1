"""What the step and the machines of a training give each other, below `training/KEY` of the archive.

| Object          | Is                                                               | Written by             |
|-----------------|------------------------------------------------------------------|------------------------|
| request.json    | params, key, prepared rows, base model, texts to practise on     | the step, once         |
| checkpoint.json | the work folder at the end of the last epoch                     | rank 0, at each epoch  |
| trained.json    | the trained weights as `trained_weights` keeps them              | rank 0, at the end     |
| files/SHA256    | the files that these three name                                  | before what names them |
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from tokka import files, objects
from tokka.errors import TokkaError
from tokka.files import JsonObject
from tokka.model.base import BaseModelFolder, weight_files
from tokka.params import Params
from tokka.settings import Settings
from tokka.training.nodes import folders

REQUEST, CHECKPOINT, TRAINED = "request.json", "checkpoint.json", "trained.json"
PREPARED, BASE, UNLABELLED = "prepared", "base", "unlabelled"
SIZE = 1 << 24


class Request(NamedTuple):
    """One training: its key, what it depends on, and where that lies on this machine.

    learned: the digest of the rows (and of the texts to practise on), which the key is made of.
    """

    key: str
    learned: str
    params: Params
    prepared: Path
    base: BaseModelFolder
    unlabelled: Path | None


class Exchange:
    """The objects of one training; `address` is what a machine is told."""

    def __init__(self, address: str) -> None:
        self.address = address

    @classmethod
    def of(cls, settings: Settings, key: str) -> "Exchange":
        """Where a training of this key has its objects."""
        return cls(objects.join(settings.archive, f"training/{key}"))

    def offer(self, request: Request) -> None:
        """Write what the machines need, unless it is there."""
        if self._has(REQUEST):
            return
        base, practice = request.base, request.unlabelled
        needed = [path.name for path in (*weight_files(base.path), base.path / "tokenizer.json")] + ["config.json"]
        given = {
            PREPARED: (request.prepared, [one.name for one in request.prepared.iterdir() if one.is_file()]),
            BASE: (base.path, needed),
            **({UNLABELLED: (practice.parent, [practice.name])} if practice else {}),
        }
        tree = {
            "key": request.key,
            "learned": request.learned,
            "params": request.params.model_dump(mode="json", exclude_none=True),
            "base": {"name": base.name, "digest": base.digest},
            "folders": {name: folders.put(self.address, *what) for name, what in given.items()},
        }
        self._put(REQUEST, tree)

    def request(self, into: Path) -> Request:
        """Fetch what a training needs into a folder. TokkaError when something is missing or altered."""
        from tokka.params import parse_params

        tree = self._read(REQUEST)
        for name, contents in tree["folders"].items():
            folders.fetch(self.address, folders.read_contents(contents), into / name)
        practice = tree["folders"].get(UNLABELLED, {})
        base = BaseModelFolder(into / BASE, tree["base"]["name"], tree["base"]["digest"])
        unlabelled = next((into / UNLABELLED / name for name in practice), None)
        params = parse_params(tree["params"])
        return Request(tree["key"], tree["learned"], params, into / PREPARED, base, unlabelled)

    def keep(self, work: Path, epoch: int) -> None:
        """Keep the work folder; what only the checkpoint before needed is deleted afterwards."""
        kept = self.copy(work)
        self._put(CHECKPOINT, {"epoch": epoch, "files": kept})
        self._prune(kept)

    def copy(self, work: Path) -> folders.Contents:
        """Copy the files of the work folder, and return their names and digests."""
        names = [one.name for one in work.iterdir() if one.is_file() and not one.name.startswith(".")]
        return folders.put(self.address, work, names)

    def paste(self, contents: folders.Contents, work: Path) -> None:
        """Make a work folder of what `copy` returned."""
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        folders.fetch(self.address, contents, work)

    def checkpoint(self) -> tuple[int, folders.Contents] | None:
        """The last epoch that was kept, and the work folder as it was then."""
        if not self._has(CHECKPOINT):
            return None
        tree = self._read(CHECKPOINT)
        return int(tree["epoch"]), folders.read_contents(tree["files"])

    def give(self, entry: Path) -> None:
        """Keep the trained weights, from a folder; the checkpoint has done its duty."""
        names = [one.name for one in entry.iterdir() if one.is_file() and one.name != files.MANIFEST]
        kept = folders.put(self.address, entry, names)
        self._put(TRAINED, {"files": kept})
        objects.delete(objects.join(self.address, CHECKPOINT))
        self._prune(kept)

    def is_trained(self) -> bool:
        """Whether the trained weights are there."""
        return self._has(TRAINED)

    def take(self, into: Path) -> None:
        """Fetch the trained weights into a folder. TokkaError when they are missing or altered."""
        folders.fetch(self.address, folders.read_contents(self._read(TRAINED)["files"]), into)

    def discard(self) -> None:
        """Delete all of it: first what says that it is there."""
        for name in sorted(objects.listing(self.address), key=lambda name: name.startswith(folders.BLOBS)):
            objects.delete(objects.join(self.address, name))

    def _prune(self, kept: folders.Contents) -> None:
        given = [folders.read_contents(one) for one in self._read(REQUEST)["folders"].values()]
        folders.prune(self.address, folders.digests(kept, *given))

    def _has(self, name: str) -> bool:
        return name in objects.listing(self.address, deep=False)

    def _put(self, name: str, tree: JsonObject) -> None:
        objects.put(json.dumps(tree, sort_keys=True).encode(), objects.join(self.address, name))

    def _read(self, name: str) -> JsonObject:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / name
            objects.read(objects.join(self.address, name), path, most=SIZE)
            found = files.read_json(path)
        if not isinstance(found, dict):
            raise TokkaError(f"{objects.join(self.address, name)} is no object of ours", "delete it, and begin anew")
        return found
