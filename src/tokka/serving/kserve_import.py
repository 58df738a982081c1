"""KServe's server half, imported without what it drags along: two thirds of the time, two thirds of the memory.

    transport = load_transport()

KServe's package imports a Kubernetes client (1 s, 60 MB) for its own API client, and reads sys.argv while it is
imported, exiting on options that are not its own.
"""

import importlib
import sys
from types import ModuleType

_CLIENT = "kserve.api.kserve_client"
# pandas, which KServe imports, would start the threads of pyarrow's allocator: a process that forks may have none.
_THREADED = "pyarrow"


def load_transport() -> ModuleType:
    """The module `tokka.serving.transport`, which imports KServe."""
    own_argv, sys.argv = sys.argv, sys.argv[:1]
    blocked = [name for name in (_CLIENT, _THREADED) if name not in sys.modules]
    placeholders = {_CLIENT: ModuleType(_CLIENT), _THREADED: None}
    placeholders[_CLIENT].KServeClient = None  # type: ignore[union-attr]
    try:
        for name in blocked:
            sys.modules[name] = placeholders[name]  # type: ignore[assignment]
        return importlib.import_module("tokka.serving.transport")
    finally:
        # Whoever needs the real ones later gets them.
        for name in blocked:
            sys.modules.pop(name, None)
        sys.argv = own_argv
