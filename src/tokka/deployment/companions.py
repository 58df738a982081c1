"""The daemon's short helpers beside the traffic: the watch over an A/B test, and what looks at a rollout that ended.

companions = Companions(settings, environment); companions.step(state)      # ten times a second, never waits
"""

import contextlib
import sys
import time

from tokka.deployment import standing
from tokka.deployment.children import Child
from tokka.deployment.record import Record, Superseded
from tokka.deployment.state import State
from tokka.settings import Settings

# What an ended rollout said is looked at in calm: it costs seconds of processor time.
CALM_SECONDS = 5.0


class Companions:
    """At most one process of each kind; all of them end with the daemon."""

    def __init__(self, settings: Settings, record: Record, endpoint: str, environment: dict[str, str]) -> None:
        logs = settings.home / "logs"
        self._watch = Child("A/B watch", logs / "ab.log", environment, niceness=0)
        self._view = Child("rollout view", logs / "rollout-view.log", environment)
        self._home, self._viewed = settings.home, ""
        # While no daemon ran nobody served either: its silence is no reason to end the test.
        state = record.read(endpoint)
        if state.phase == "ab":
            with contextlib.suppress(Superseded):
                record.beat(state)

    @property
    def pids(self) -> list[int]:
        """The running processes."""
        return [*self._watch.pids, *self._view.pids]

    def step(self, state: State) -> None:
        """Start what the record asks for and does not run."""
        self._watch.reap()
        self._view.reap()
        if state.phase == "ab":
            self._watch.start([sys.executable, "-P", "-m", "tokka.deployment.ab"], state.rollout)
        calm = time.time() - state.updated > CALM_SECONDS
        # Once: what cannot be looked at is not tried again and again.
        if calm and state.rollout != self._viewed and standing.has_unseen_answers(self._home, state):
            command = [sys.executable, "-P", "-m", "tokka.monitoring.rollout_view", state.rollout]
            self._viewed = state.rollout if self._view.start(command, state.rollout) else self._viewed

    def stop(self) -> None:
        """End them."""
        self._watch.stop()
        self._view.stop()
