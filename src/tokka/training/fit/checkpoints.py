"""Training state on disk: the last epoch's end, and the best weights; each whole or absent."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from tokka import files

LAST = "last.ckpt"
BEST = "best.safetensors"


class WholeOrAbsent(TorchCheckpointIO):  # type: ignore[misc]  # Lightning ships no types that we read
    """Lightning's checkpoint format, written beside its target and renamed.

    Lightning stages in /tmp and moves: across file systems that is a copy, and a SIGKILL leaves a truncated file.
    """

    def save_checkpoint(
        self, checkpoint: Mapping[str, object], path: str | Path, storage_options: object = None
    ) -> None:
        """Write so that a kill leaves the old checkpoint or the new one."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        files.sync_folder(target.parent)


def find_checkpoint(work: Path) -> Path | None:
    """The checkpoint to go on from; one that cannot be read is removed, and training starts anew."""
    for leftover in work.glob(".*.tmp"):
        leftover.unlink()
    path = work / LAST
    if not path.is_file():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged zip or a refused pickle raises many kinds; all mean "cannot be used"
        path.unlink()
        return None
    return path
