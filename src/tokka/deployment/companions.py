"""The daemon's short helpers beside the traffic: the watch over an A/B test, and what looks at a rollout that ended.

companions = Companions(settings, environment); companions.step(state)      # ten times a second, never waits
"""

import contextlib
import sys

from tokka.deployment.children import Child
from tokka.deployment.record import Record, Superseded
from tokka.deployment.state import State
from tokka.settings import Settings


class Companions:
    """At most one process of each kind; all of them end with the daemon."""

    def __init__(self, settings: Settings, record: Record, endpoint: str, environment: dict[str, str]) -> None:
        logs = settings.home / "logs"
        self._watch = Child("A/B watch", logs / "ab.log", environment)
        # While no daemon ran nobody served either: its silence is no reason to end the test.
        state = record.read(endpoint)
        if state.phase == "ab":
            with contextlib.suppress(Superseded):
                record.beat(state)

    @property
    def pids(self) -> list[int]:
        """The running processes."""
        return self._watch.pids

    def step(self, state: State) -> None:
        """Start what the record asks for and does not run."""
        self._watch.reap()
        if state.phase == "ab":
            self._watch.start([sys.executable, "-P", "-m", "tokka.deployment.ab"], state.rollout)

    def stop(self) -> None:
        """End them."""
        self._watch.stop()
