"""What a daemon that was killed has left to its successor: workers that answer, and who served.

last = inheritance.last_word(settings, keeper)          # None for the first daemon of a stack
fleet = Fleet(…, inherited=inheritance.workers(last))
for pid in inheritance.strays(keeper, known_pids): os.kill(pid, signal.SIGKILL)
"""

import contextlib
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

from tokka.deployment.record.state import Revision
from tokka.processes import process
from tokka.processes.health_probe import Pulse
from tokka.serving.options import MODULE
from tokka.settings import Settings
from tokka.stack import stack
from tokka.stack.state_file import StackInfo
from tokka.stack.workers import Worker


def last_word(settings: Settings, keeper: int) -> StackInfo | None:
    """What the last daemon of this keeper said last."""
    info = stack.last_word(settings)
    return info if info is not None and (info.pid, info.started) == (keeper, process.identity(keeper)) else None


def workers(last: StackInfo) -> Iterator[Worker]:
    """Those that it has told of and that live, as they were."""
    for one in last.workers:
        if process.is_same(one.pid, one.started):
            revision, now = Revision(version=one.version, digest=one.digest), time.monotonic()
            yield Worker(
                revision, one.pid, one.started, Path(one.ready_file), born=now, since=now, state=one.state,
                port=one.port, grpc_port=one.grpc_port, seconds=one.seconds,
                pulse=Pulse(one.port) if one.ready else None,
            )  # fmt: skip


def strays(keeper: int, known: Collection[int]) -> Iterator[int]:
    """Workers that it had started and not told of yet: nobody was sent to them.

    Args:
        known: every worker that somebody looks after.
    """
    for child in psutil.Process(keeper).children():
        with contextlib.suppress(psutil.Error):
            if child.pid not in known and MODULE in child.cmdline():
                yield child.pid


def serving(last: StackInfo) -> Revision | None:
    """Who was behind the gateway as the champion."""
    found = (one for one in last.workers if one.ready and one.digest == last.champion)
    return next((Revision(version=one.version, digest=one.digest) for one in found), None)
