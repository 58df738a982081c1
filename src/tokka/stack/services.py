"""The daemon's helpers that need MLflow or only the disk, once the endpoint has what it needs.

house = Housekeeping(settings, logs, environment, keeper); house.step(state, missing=…, settled=…)      # never waits
"""

import sys
import time
from pathlib import Path

from tokka.deployment.record.state import State
from tokka.processes.child import Child, Helper, MlflowPage
from tokka.settings import Settings

# Importing MLflow costs seconds of processor time: that is not spent beside a rollout that moves.
CALM_SECONDS = 5.0
# The request log is sealed and its oldest part deleted so often; not while the stack comes up.
ARCHIVE_SECONDS = 600.0


class Housekeeping:
    """The MLflow page, the keeper of aliases and model folders, and the request log's archive."""

    def __init__(self, settings: Settings, logs: Path, environment: dict[str, str], keeper: int) -> None:
        self.page = MlflowPage(settings, logs / "mlflow.log", environment, keeper)
        self._upkeep = Helper("upkeep", settings.home / "stack", logs / "upkeep.log", environment, keeper)
        self._archive = Child("archive", logs / "archive.log", environment)
        self._archived = time.monotonic() - 0.9 * ARCHIVE_SECONDS
        self._generation, self._changed = -1, time.monotonic()

    @property
    def pids(self) -> list[int]:
        """The running processes."""
        return [*self.page.pids, *self._upkeep.pids, *self._archive.pids]

    def is_calm(self, state: State) -> bool:
        """Whether the record has not moved for a while."""
        if state.generation != self._generation:
            self._generation, self._changed = state.generation, time.monotonic()
        return time.monotonic() - self._changed > CALM_SECONDS

    def step(self, state: State, *, missing: bool, settled: bool) -> None:
        """Start what should run and does not.

        Args:
            missing: a model folder that is wanted is not here.
            settled: everybody who is wanted answers, or has had the time to.
        """
        self._archive.reap()
        if time.monotonic() - self._archived > ARCHIVE_SECONDS:
            self._archived = time.monotonic()
            self._archive.start([sys.executable, "-P", "-m", "tokka.stack.archive_log"])
        calm = self.is_calm(state) or state.phase == "idle"
        if not self.page.has_registry():
            return
        if missing or (settled and calm and state.generation > 0):
            self._upkeep.keep([sys.executable, "-P", "-m", "tokka.stack.sync_registry"])
        if settled:
            self.page.keep()

    def stop(self) -> None:
        """End them."""
        self.page.stop()
        self._upkeep.stop()
        self._archive.stop()
