"""The daemon's short helpers beside the traffic: the watch over an A/B test, the rest of a watch that its driver left,
and what looks at a rollout that ended.

companions = Companions(settings, record, endpoint, environment)
companions.step(state, abandoned=…, calm=…)      # ten times a second, never waits
"""

import contextlib
import sys

from tokka.deployment import rollout_files
from tokka.deployment.record.record import Record, Superseded
from tokka.deployment.record.state import State
from tokka.processes.child import Child
from tokka.settings import Settings

# A watch that has failed goes on so soon.
RETRY_SECONDS = 1.0


class Companions:
    """At most one process of each kind; all of them end with the daemon."""

    def __init__(self, settings: Settings, record: Record, endpoint: str, environment: dict[str, str]) -> None:
        logs = settings.home / "logs"
        self._comparison = Child("A/B watch", logs / "ab.log", environment, niceness=0)
        self._watch = Child("watch", logs / "watch.log", environment, retry_seconds=RETRY_SECONDS, niceness=0)
        self._view = Child("rollout view", logs / "rollout-view.log", environment)
        self._home, self._viewed = settings.home, ""
        # While no daemon ran nobody served either: its silence is no reason to end the test.
        state = record.read(endpoint)
        if state.phase == "ab":
            with contextlib.suppress(Superseded):
                record.heartbeat(state)

    @property
    def pids(self) -> list[int]:
        """The running processes."""
        return [pid for child in self._children for pid in child.pids]

    @property
    def _children(self) -> tuple[Child, ...]:
        return self._comparison, self._watch, self._view

    def step(self, state: State, *, abandoned: bool, calm: bool) -> None:
        """Start what the record asks for and does not run.

        Args:
            abandoned: nobody drives what the record says is under way.
            calm: nothing moves; what an ended rollout said is looked at then, since it costs seconds of processor time.
        """
        for child in self._children:
            child.reap()
        if state.phase == "ab":
            self._comparison.start([sys.executable, "-P", "-m", "tokka.stack.drive"])
        if state.phase == "watch" and abandoned:
            self._watch.start([sys.executable, "-P", "-m", "tokka.stack.drive"])
        # Once: what cannot be looked at is not tried again and again.
        if calm and state.rollout != self._viewed and rollout_files.has_unseen_answers(self._home, state):
            command = [sys.executable, "-P", "-m", "tokka.monitoring.rollout_view", state.rollout]
            self._viewed = state.rollout if self._view.start(command) else self._viewed

    def stop(self) -> None:
        """End them."""
        for child in self._children:
            child.stop()
