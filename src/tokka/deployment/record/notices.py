"""What people are told of decisions: pure functions from a decision, and the states around it, to an event."""

from tokka.deployment.record.state import Decision, State
from tokka.notifications import Event
from tokka.sections_serving import Kind


def of_change(before: State, after: State, decision: Decision) -> Event | None:
    """The event of a decision that changed the record from `before` to `after`; None for what nobody need know."""
    action, version = decision.get("action", ""), decision.get("version", "")
    if action == "go_on" and after.share > 0:
        share = f"{after.share:.0%}"
        how = f"an A/B test gives it {share}" if after.phase == "ab" else f"{share} of live traffic goes to it"
        return _event("canary_step", after, decision, f"Version {version} is on trial: {how}.")
    if action == "promote":
        watch = ", and is watched now" if after.phase == "watch" else ""
        old = f" in the place of version {after.previous.version}" if after.previous else ""
        return _event("promoted", after, decision, f"Version {version} is the champion{old}{watch}.")
    if action == "roll_back" or (action == "finish" and before.phase == "ab"):
        return _event("rolled_back", after, decision, _taken_away(before, after, version))
    return None


def of_decision(state: State, decision: Decision) -> Event | None:
    """The event of a decision that changed nothing; None for what nobody need know."""
    version = decision.get("version", "")
    if decision.get("phase") == "verify":
        what = f"Version {version} is refused before anything was changed."
        return _event("refused", state, decision, what, f"verify/{version}/{state.generation}")
    if decision.get("topic") == "labels":
        what = f"The rollout of version {version} waits for labels: champion and challenger disagree."
        needs = "somebody who knows the right answers: `tokka review labels`"
        return _event("waiting_for_review", state, decision, what, f"labels/{state.rollout}", needs)
    return None


def _event(kind: Kind, state: State, decision: Decision, what: str, subject: str = "", needs: str = "") -> Event:
    subject, why = subject or f"{state.rollout}/{state.generation}", decision.get("reasons", ())
    details = state.model_dump(include={"rollout", "generation", "share", "phase"})
    return Event(kind, state.endpoint, subject, what, why, needs, decision.get("version", ""), details=details)


def _taken_away(before: State, after: State, version: str) -> str:
    champion = f"version {after.champion.version} serves" if after.champion else "nothing serves"
    if before.challenger is None:
        return f"Version {version} was the champion and is taken back: {champion} again."
    share = f" at {before.share:.0%} of live traffic" if before.share else ""
    return f"Version {version} is taken away in phase {before.phase}{share}: {champion}."
