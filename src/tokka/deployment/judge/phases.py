"""What a rollout does next: a pure function of the record's state and the evidence at hand.

warm_up → shadow → step (one per share in `canary.steps`) → promoted, watch → idle. Every phase can end in roll_back;
what stays undecided past its time does. An A/B test goes warm_up → ab, which ends by itself in roll_back only.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from tokka.deployment.judge.evidence import Pairs, Traffic, is_sound
from tokka.deployment.judge.live_judge import is_calm, judge_ab, judge_traffic, judge_watch
from tokka.deployment.judge.shadow_judge import judge_pairs
from tokka.deployment.judge.verdict import Judgement
from tokka.deployment.record.state import Changes, Decision, Revision, State
from tokka.deployment.record.target import Answer, Observed
from tokka.sections_serving import Canary

Kind = Literal["wait", "go_on", "promote", "roll_back", "finish"]


@dataclass(frozen=True)
class Evidence:
    """What was seen in the present phase; what was not looked for, or gave no answer, is None or empty.

    lost_s: for how many seconds no worker of the revision that matters was ready.
    before, after: requests before and since the promotion, for the watch.
    """

    observed: Observed | None = None
    lost_s: float = 0.0
    smoke: tuple[Answer, ...] = ()
    pairs: Pairs = field(default_factory=Pairs)
    traffic: Traffic = field(default_factory=Traffic)
    before: Traffic = field(default_factory=Traffic)
    after: Traffic = field(default_factory=Traffic)


@dataclass(frozen=True)
class Action:
    """The next move: what to write into the record (nothing for `wait`), and why; `topic` names the kind of reason."""

    kind: Kind
    topic: str
    reasons: tuple[str, ...]
    changes: Changes = field(default_factory=Changes)
    values: dict[str, float] = field(default_factory=dict)

    def describe(self, state: State, now: float) -> Decision:
        """The decision on what is on trial in `state`, as it is written down; `now` in seconds since 1970."""
        return {
            "version": state.on_trial.version if state.on_trial else "",
            "digest": state.on_trial.digest if state.on_trial else "",
            "rollout": state.rollout,
            "phase": state.phase,
            "share": state.share,
            "action": self.kind,
            "topic": self.topic,
            "reasons": list(self.reasons),
            "values": self.values,
            "seconds": round(max(0.0, now - state.updated), 3) if state.updated else 0.0,
        }


def next_action(state: State, evidence: Evidence, canary: Canary, now: float) -> Action:
    """Decide. `now` and `state.updated` (in a watch: `state.promoted`) are seconds of the same clock.

    ValueError when nothing rolls out in this state.
    """
    if state.phase == "watch":
        return _watch(state, evidence, canary, now)
    if state.challenger is None:
        raise ValueError(f"{state.endpoint} has no challenger in phase {state.phase!r}")
    if state.phase == "warm_up":
        return _in_time(state, _warm_up(state, state.challenger, evidence, canary), now, canary.warm_up_s)
    if evidence.lost_s > canary.lost_s:
        why = why_unready(state.challenger, evidence.observed)
        reason = f"no worker of version {state.challenger.version} was ready for {canary.lost_s:g} s{why}"
        return roll_back(state, "lost", reason)
    if state.phase == "ab":
        return _ab(state, evidence, canary)
    shadow = state.phase == "shadow"
    action = _shadow(state, evidence, canary) if shadow else _step(state, state.challenger, evidence, canary, now)
    return _in_time(state, action, now, canary.maximum_wait_s)


def roll_back(state: State, topic: str, *reasons: str, values: dict[str, float] | None = None) -> Action:
    """Take the challenger away; where there is none, put the previous champion back."""
    changes: Changes = {"challenger": None, "share": 0.0, "phase": "idle", "reason": "; ".join(reasons)}
    if state.challenger is None:
        changes |= {"champion": state.previous, "previous": None}
    return Action("roll_back", topic, reasons, changes, values or {})


def is_ready(revision: Revision, observed: Observed | None) -> bool:
    """Whether a worker of this revision answers; a target names revisions by digest or by version."""
    return observed is not None and bool({revision.digest, revision.version} & set(observed.ready))


def why_unready(revision: Revision, observed: Observed | None) -> str:
    """What a target says of a revision that is not ready, to be put behind a sentence; empty when it says nothing."""
    problems = observed.problems if observed is not None else {}
    found = problems.get(revision.digest) or problems.get(revision.version)
    return f": {found}" if found else ""


def is_applied(state: State, observed: Observed | None) -> bool:
    """Whether what serves follows this generation of the record, the split included."""
    return observed is not None and observed.generation >= state.generation and abs(observed.share - state.share) < 1e-4


def _warm_up(state: State, challenger: Revision, evidence: Evidence, canary: Canary) -> Action:
    if not (is_ready(challenger, evidence.observed) and is_applied(state, evidence.observed)):
        why = why_unready(challenger, evidence.observed)
        return Action(
            "wait", "cannot start" if why else "not ready", (f"version {challenger.version} is not ready{why}",)
        )
    if not evidence.smoke:
        return Action("wait", "no smoke", ("no smoke prediction was made",))
    sound = f"{len(evidence.smoke)} smoke predictions are sound"
    unsound = [answer for answer in evidence.smoke if not (is_sound(answer, None) or is_sound(answer, 1.0))]
    if broken := [answer.error or "an answer without content" for answer in unsound]:
        reason = f"{len(broken)} of {len(evidence.smoke)} smoke predictions failed: {broken[0]}"
        return Action("wait", "smoke", (reason,))
    if state.champion is None:
        return _promote(state, challenger, canary, (f"the first version: no champion to compare with, {sound}",), {})
    if state.ab_share:
        reasons = (f"an A/B test at {state.ab_share:.0%} was asked for", f"ready, {sound}")
        return Action("go_on", "ab", reasons, {"phase": "ab", "share": state.ab_share})
    return Action("go_on", "warm", (f"ready, {sound}",), {"phase": "shadow"})


def _ab(state: State, evidence: Evidence, canary: Canary) -> Action:
    judgement = judge_ab(evidence.traffic, canary.alpha)
    if judgement.verdict == "roll_back":
        return roll_back(state, "live", *judgement.reasons, values=judgement.values)
    applied = "" if is_applied(state, evidence.observed) else "; the gateway does not split so yet"
    reason = f"an A/B test at {state.share:.0%}, {'; '.join(judgement.reasons)}{applied}"
    return _wait("ab", replace(judgement, reasons=(reason,)))


def _shadow(state: State, evidence: Evidence, canary: Canary) -> Action:
    pairs = evidence.pairs
    judgement = judge_pairs(pairs, canary)
    if judgement.verdict == "roll_back":
        return roll_back(state, "quality", *judgement.reasons, values=judgement.values)
    enough = pairs.exhausted or pairs.difference.size >= canary.shadow_rows
    if judgement.verdict == "promote" and enough:
        changes: Changes = {"phase": "step", "share": canary.steps[0]}
        return Action("go_on", "quality", judgement.reasons, changes, judgement.values)
    if count := judgement.values["unlabelled_disagreements"]:
        wish = f"{count:.0f} disagreements wait for a label: `tokka review labels`"
        return _wait("labels", replace(judgement, reasons=(*judgement.reasons, wish)))
    if pairs.exhausted and not pairs.live:
        reasons = (*judgement.reasons, "there is no further input to compare on")
        return roll_back(state, "undecided", *reasons, values=judgement.values)
    return _wait("undecided", judgement)


def _step(state: State, challenger: Revision, evidence: Evidence, canary: Canary, now: float) -> Action:
    later = [step for step in canary.steps if step > state.share + 1e-9]
    judgement = judge_traffic(evidence.traffic, state.share, canary, last=not later)
    if judgement.verdict == "roll_back":
        return roll_back(state, "live", *judgement.reasons, values=judgement.values)
    if not is_applied(state, evidence.observed):
        reason = f"the gateway does not split at {state.share:.1%} yet"
        return _wait("not applied", replace(judgement, reasons=(reason,)))
    if judgement.verdict == "hold" or now - state.updated < canary.minimum_wait_s:
        return _wait("requests", judgement)
    if not later:
        return _promote(state, challenger, canary, judgement.reasons, judgement.values)
    return Action("go_on", "step", judgement.reasons, {"share": later[0]}, judgement.values)


def _promote(
    state: State, challenger: Revision, canary: Canary, reasons: tuple[str, ...], values: dict[str, float]
) -> Action:
    changes: Changes = {
        "champion": challenger, "previous": state.champion, "challenger": None, "share": 0.0,
        "phase": "watch" if state.champion is not None and canary.watch_s > 0 else "idle", "reason": "; ".join(reasons),
    }  # fmt: skip
    return Action("promote", "promoted", reasons, changes, values)


def _watch(state: State, evidence: Evidence, canary: Canary, now: float) -> Action:
    judgement = judge_watch(evidence.before, evidence.after, canary)
    if state.previous is not None and judgement.verdict == "roll_back":
        return roll_back(state, "watch", *judgement.reasons, values=judgement.values)
    if state.previous is not None and evidence.lost_s > canary.lost_s and is_ready(state.previous, evidence.observed):
        why = why_unready(state.champion, evidence.observed) if state.champion else ""
        return roll_back(state, "lost", f"no worker of the new champion was ready for {canary.lost_s:g} s{why}")
    # While something looks bad the watch goes on; what is never proven ends with the longest wait.
    long = canary.watch_s if is_calm(judgement) else max(canary.watch_s, canary.maximum_wait_s)
    if now - state.promoted < long and state.previous is not None:
        return _wait("watch", judgement)
    return Action("finish", "watched", judgement.reasons, {"phase": "idle"}, judgement.values)


def _wait(topic: str, judgement: Judgement) -> Action:
    return Action("wait", topic, judgement.reasons, {}, judgement.values)


def _in_time(state: State, action: Action, now: float, limit_s: float) -> Action:
    """What has waited for longer than `limit_s` is refused."""
    if action.kind != "wait" or now - state.updated < limit_s:
        return action
    reasons = (f"held for more than {limit_s:g} s in phase {state.phase}", *action.reasons)
    return roll_back(state, "held", *reasons, values=action.values)
