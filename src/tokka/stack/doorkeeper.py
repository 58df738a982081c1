"""The daemon's part in authentication: the authority beside the gateway, and the pipeline's own key.

doorkeeper = Doorkeeper(settings, access, log, environment); doorkeeper.keep()
"""

import sys
from pathlib import Path

from tokka.gateway.api_keys import OWN_SECRET, KeyStore
from tokka.gateway.exposure import Access
from tokka.processes.child import Child
from tokka.settings import Settings

# Nobody new gets in while it is away: it is back at once.
RETRY_SECONDS = 0.2
SOCKET = "authority.sock"


class Doorkeeper:
    """Nothing at all when the gateway asks nobody who they are."""

    def __init__(self, settings: Settings, access: Access, log: Path, environment: dict[str, str]) -> None:
        folder = settings.home / "stack"
        self._wanted = access.authentication
        self._command = [sys.executable, "-P", "-m", "tokka.gateway.authorizer", str(folder / SOCKET)]
        self._child = Child("authority", log, environment, retry_seconds=RETRY_SECONDS, niceness=0)
        (folder / OWN_SECRET).unlink(missing_ok=True)
        if self._wanted:
            KeyStore(settings.home).renew_own(folder)
        self.keep()

    @property
    def pids(self) -> list[int]:
        """The authority's process, if any."""
        return self._child.pids

    def keep(self) -> None:
        """Start the authority when it should run and does not."""
        if self._wanted:
            self._child.reap()
            self._child.start(self._command)

    def stop(self) -> None:
        """End it."""
        self._child.stop()
