"""How long ago the record's last change was, by a clock that nobody can set.

    action = next_action(state, evidence, canary, now(state, clock))
    state = record.compare_and_set(state, **restart(state, clock))

The record keeps both: the wall clock, which the request log and people go by, and the machine's own. When they moved
apart since, somebody has set the wall clock or the machine has slept; then what is counted from there begins anew.
"""

from typing import Any

from tokka.deployment.record import owner
from tokka.deployment.record.record import Clock
from tokka.deployment.record.state import State

# A clock that is kept by the network moves by less than a second in half an hour.
JUMP_S = 5.0


def now(state: State, clock: Clock) -> float:
    """What the wall clock of `state.updated` (in a watch: of `state.promoted`) would show, had nobody set it since."""
    wall, moment = _anchor(state)
    return wall + clock.monotonic() - moment


def has_jumped(state: State, clock: Clock) -> bool:
    """Whether the times in a state can no longer be compared with the wall clock; also so after a restart."""
    wall, moment = _anchor(state)
    return not owner.is_here(state) or abs(clock.time() - wall - (clock.monotonic() - moment)) > JUMP_S


def restart(state: State, clock: Clock) -> dict[str, Any]:
    """The change that begins a watch, or the collection of evidence, anew; empty while the clocks agree."""
    if not has_jumped(state, clock):
        return {}
    return {"started": clock.time(), **({"phase": "watch"} if state.phase == "watch" else {})}


def _anchor(state: State) -> tuple[float, float]:
    if state.phase == "watch":
        return state.promoted, state.promoted_moment
    return state.updated, state.moment
