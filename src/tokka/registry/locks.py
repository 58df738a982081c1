"""One writer at a time on this machine: file locks that the kernel frees when their holder dies.

MLflow's SQLite crashes when several processes create its tables, and neither its runs nor its versions have a
unique key; a lock per purpose closes both races for everyone who shares TOKKA_HOME. Writers on other machines
share a server instead, and `Registry` settles those races after the fact (see `Registry.register`).
"""

import re
from contextlib import AbstractContextManager

from tokka import files
from tokka.settings import Settings


def locked(settings: Settings, name: str, timeout: float = 120.0) -> AbstractContextManager[None]:
    """Hold the lock `name`; not reentrant.

    Raises:
        TokkaError: somebody else still holds it after `timeout` seconds.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return files.locked(settings.home / "locks" / f"{safe}.lock", timeout)
