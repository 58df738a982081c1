"""A decision as it is written down: what was done to which version in which phase, on what numbers, and why."""

from typing import Any

from tokka.deployment.phases import Action
from tokka.deployment.state import State


def describe(action: Action, state: State, version: str, now: float, *, phase: str = "") -> dict[str, Any]:
    """Plain data for the record.

    Args:
        state: what the record said when it was decided.
        version: the version that it is about.
        now: seconds since 1970.
        phase: when it is another than the state's.
    """
    return {
        "version": version,
        "rollout": state.rollout,
        "phase": phase or state.phase,
        "share": state.share,
        "action": action.kind,
        "topic": action.topic,
        "reasons": list(action.reasons),
        "values": action.values,
        "seconds": round(max(0.0, now - state.updated), 3) if state.updated else 0.0,
    }
