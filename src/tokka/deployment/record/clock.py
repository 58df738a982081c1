"""How long ago the record's last change was, by the monotonic clock.

The record keeps both: the wall clock, which the request log and people go by, and the machine's own. When they moved
apart since, the wall clock was set or the machine has slept; then what is counted from there begins anew.
"""

from typing import Protocol

from tokka.deployment.record import owner
from tokka.deployment.record.state import Changes, State

# A clock that is kept by the network moves by less than a second in half an hour.
JUMP_S = 5.0


class Clock(Protocol):
    """What tells the time; the module `time` is one."""

    def time(self) -> float:
        """Seconds since 1970; the clock can be set."""

    def monotonic(self) -> float:
        """Seconds of a clock that cannot be set, the same for every process of a machine until it restarts."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


def now(state: State, clock: Clock) -> float:
    """What the wall clock of `state.updated` (in a watch: of `state.promoted`) shows if it was not set since."""
    wall, moment = _anchor(state)
    return wall + clock.monotonic() - moment


def has_jumped(state: State, clock: Clock) -> bool:
    """Whether the times in a state can no longer be compared with the wall clock; also so after a restart.

    Never in an A/B test: nothing in it is counted from a moment.
    """
    wall, moment = _anchor(state)
    apart = abs(clock.time() - wall - (clock.monotonic() - moment))
    return state.phase != "ab" and (not owner.is_here(state) or apart > JUMP_S)


def restart(state: State, clock: Clock) -> Changes:
    """The change that begins a watch, or the collection of evidence, anew; empty while the clocks agree."""
    if not has_jumped(state, clock):
        return {}
    return {"started": clock.time(), "phase": state.phase} if state.phase == "watch" else {"started": clock.time()}


def _anchor(state: State) -> tuple[float, float]:
    if state.phase == "watch":
        return state.promoted, state.promoted_moment
    return state.updated, state.moment
