"""Which arithmetic and device training uses on this machine."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch

# As `finetuning.precision` names them, once `auto` is resolved.
Precision = Literal["bf16", "32"]
PRECISIONS: tuple[Precision, ...] = ("bf16", "32")
LIGHTNING = {"bf16": "bf16-mixed", "32": "32-true"}


def has_fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bfloat16 is computed by the hardware; where it is emulated, it is slower than float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = cpuinfo.read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_device() -> Literal["cuda", "cpu"]:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def autocast(precision: Precision) -> AbstractContextManager[object]:
    """Compute the forward pass in this precision, on the device of the training."""
    return torch.autocast(choose_device(), dtype=torch.bfloat16, enabled=precision == "bf16")
