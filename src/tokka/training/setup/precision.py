"""Which arithmetic and how many threads training uses on this machine."""

import os
from pathlib import Path
from typing import Literal

import torch

from tokka.params import Finetuning

Precision = Literal["32-true", "bf16-mixed"]
# More threads than this gain little at the batch sizes of a small encoder, and cost processor seconds.
USEFUL_THREADS = 4


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


def choose_precision(params: Finetuning) -> Precision:
    """What `finetuning.precision` means here, as Lightning calls it."""
    wanted = params.precision
    if wanted == "bf16" or (wanted == "auto" and has_fast_bf16()):
        return "bf16-mixed"
    return "32-true"


def choose_threads(params: Finetuning) -> int:
    """`finetuning.threads`, or as many processors as this process may use, up to what is useful."""
    return params.threads or min(USEFUL_THREADS, len(os.sched_getaffinity(0)))
