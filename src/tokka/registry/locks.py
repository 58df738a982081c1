"""One writer at a time on this machine: file locks that the kernel frees when their holder dies.

MLflow's SQLite crashes when several processes create its tables, and neither its runs nor its versions have a
unique key; a lock per purpose closes both races for everyone who shares TOKKA_HOME. Writers on other machines
share a server instead, and `Registry` settles those races after the fact (see `Registry.register`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from tokka.errors import TokkaError
from tokka.settings import Settings


@contextmanager
def locked(settings: Settings, name: str, timeout: float = 120.0) -> Iterator[None]:
    """Hold the lock `name`; not reentrant.

    Raises:
        TokkaError: somebody else still holds it after `timeout` seconds.
    """
    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.lock"
    try:
        with FileLock(path, timeout=timeout):
            yield
    except Timeout:
        raise TokkaError(
            f"{path} is held by another process since more than {timeout:.0f} s",
            "wait for the other run to end, or end it; the lock frees itself",
        ) from None
