"""Training state on disk: the last epoch's end, and the best weights; each whole or absent."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from tokka import files
from tokka.model.network import as_safetensors

LAST = "last.ckpt"
BEST = "best.safetensors"


class WholeOrAbsent(TorchCheckpointIO):  # type: ignore[misc]  # Lightning ships no types that we read
    """Lightning's checkpoint format, written beside its target and renamed.

    Lightning stages in /tmp and moves: across file systems that is a copy, and a SIGKILL leaves a truncated file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
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


def save_best(work: Path, state: dict[str, Tensor]) -> None:
    """Keep the weights of the best epoch so far."""
    files.write_bytes(work / BEST, as_safetensors(state))


def load_best(work: Path) -> dict[str, Tensor]:
    """The weights of the best epoch."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = load_file(work / BEST)
    return found
