"""Decisions as they are written down, one by one and as the result of a rollout: what was done, and why."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tokka.deployment.judge.phases import Action
from tokka.deployment.record.state import State

Verdict = Literal["promoted", "rolled_back", "held", "superseded"]


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


@dataclass(frozen=True)
class RolloutResult:
    """What came of a rollout.

    phases: every decision in the order of time, as the record keeps it: phase, share, action, reasons, e-values.
    share_seen: the highest share of live traffic that was on the challenger when a step was decided.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    phases: tuple[dict[str, Any], ...] = field(default=())
    share_seen: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return {**asdict(self), "reasons": list(self.reasons), "phases": list(self.phases)}
