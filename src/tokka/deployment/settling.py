"""After a verdict: see that what serves follows it, so that who is told "promoted" is answered by that version.

settle(target, state, clock)      # False when it still does not after SETTLE_S seconds
"""

from tokka.deployment.record.record import Clock
from tokka.deployment.record.state import State
from tokka.deployment.record.target import Target
from tokka.errors import TokkaError

# The daemon follows the record within a fraction of a second; a stack that has to be started takes a few.
SETTLE_S = 10.0
POLL_S = 0.1


def settle(target: Target, state: State, clock: Clock) -> bool:
    """Have a state applied, and wait until it is in force; at most `SETTLE_S` seconds."""
    deadline = clock.monotonic() + SETTLE_S
    while not _in_force(target, state):
        if clock.monotonic() >= deadline:
            return False
        clock.sleep(POLL_S)
    return True


def _in_force(target: Target, state: State) -> bool:
    try:
        target.apply(state)
        return target.observe().generation >= state.generation
    except TokkaError:
        return False
