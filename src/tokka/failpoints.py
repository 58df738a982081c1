"""Where a test kills this process: just before or just after one of the writes that a rollout is made of.

    TOKKA_CRASH_AT=/tmp/plan      # names a file with a line such as alias:before:2: SIGKILL before the second alias

Sites: record, alias, tag, map, start, stop, notify, trigger, trigger-record. Without the variable no file is looked for
and nothing happens. Whoever dies of a plan first renames its file to PLAN.done: its successor, which has the same
environment, lives, unless there is a file PLAN.next, which becomes the plan by then.
"""

import contextlib
import functools
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

VARIABLE = "TOKKA_CRASH_AT"
_NOTHING = contextlib.nullcontext()
_passed: Counter[tuple[str, int]] = Counter()


def at(site: str) -> AbstractContextManager[None]:
    """Surrounds one write; `after` is not reached by a write that failed."""
    plan = _plan()
    return _NOTHING if plan is None else _around(plan, site)


@functools.cache
def _plan() -> Path | None:
    given = os.environ.get(VARIABLE)
    return Path(given) if given else None


@contextlib.contextmanager
def _around(plan: Path, site: str) -> Iterator[None]:
    _pass(plan, site, "before")
    yield
    _pass(plan, site, "after")


def _pass(plan: Path, site: str, moment: str) -> None:
    # It may be put there, taken away or renamed by somebody else at any time.
    with contextlib.suppress(FileNotFoundError):
        text, made = plan.read_text(encoding="utf-8"), plan.stat().st_mtime_ns
        wanted_site, wanted_moment, number = text.strip().split(":")
        if (wanted_site, wanted_moment) != (site, moment):
            return
        _passed[text, made] += 1
        if _passed[text, made] >= int(number):
            plan.rename(plan.with_name(f"{plan.name}.done"))
            with contextlib.suppress(FileNotFoundError):
                plan.with_name(f"{plan.name}.next").rename(plan)
            os.kill(os.getpid(), signal.SIGKILL)
