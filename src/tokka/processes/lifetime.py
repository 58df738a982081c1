"""How long a process may live.

lifetime.die_with_parent(os.getppid())       # in the child, or as preexec_fn
"""

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1
# Loaded at import: between fork and exec nothing may be imported or allocated that a lock protects.
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends, however it ends; Linux only, elsewhere nothing.

    Raises:
        SystemExit: the parent has ended already.
    """
    if LIBC is not None:
        LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
