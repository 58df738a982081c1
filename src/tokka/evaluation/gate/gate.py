"""May the candidate become a version? A pure function from the evaluation and the rules to pass or refuse.

Every rule of `rules.RULES` and `agreement.AGREEMENT` is asked and each answers with its reason; one refusal refuses.
An evaluation that is not complete, typed and finite is refused before the rules, and a rule that fails is a refusal:
nothing here raises.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from pydantic import ValidationError

from tokka.evaluation.gate.agreement import AGREEMENT, Seen
from tokka.evaluation.gate.rules import RULES, Answer
from tokka.evaluation.gate.schema import Evaluation
from tokka.params import Params

Verdict = Literal["pass", "refuse"]


@dataclass(frozen=True)
class Rule:
    """One rule's answer."""

    rule: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Decision:
    """The gate's answer; `reasons` are those of the refusals, or of every rule when it passed."""

    verdict: Verdict
    rules: tuple[Rule, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, in one line each."""
        return tuple(rule.reason for rule in self.rules if rule.verdict == self.verdict)

    def as_dict(self) -> dict[str, object]:
        """Plain data for gate.json."""
        rules = [asdict(rule) for rule in self.rules]
        return {"verdict": self.verdict, "rules": rules, "reasons": list(self.reasons)}


def decide(evaluation: Mapping[str, object], params: Params, seen: Seen) -> Decision:
    """Ask every rule; `seen` is what the evaluation's own predictions say. Never raises, whatever they hold."""
    try:
        read = Evaluation.model_validate(evaluation)
    except ValidationError as error:
        return _conclude([Rule("well_formed", "refuse", f"the evaluation cannot be trusted: {_explain(error)}")])
    except Exception as error:  # whatever breaks the reader must refuse, not let the candidate by
        return _conclude([Rule("well_formed", "refuse", f"the evaluation cannot be read: {type(error).__name__}")])
    asked = [_ask(name, partial(rule, read, params)) for name, rule in RULES.items()]
    asked += [_ask(name, partial(rule, read, params, seen)) for name, rule in AGREEMENT.items()]
    return _conclude([Rule("well_formed", "pass", "every figure is present and finite"), *asked])


def _ask(name: str, rule: Callable[[], Answer]) -> Rule:
    try:
        holds, reason = rule()
    except Exception as error:  # as above
        return Rule(name, "refuse", f"the rule {name} failed: {type(error).__name__}: {error}")
    # Only True passes: a rule that answers with anything else has a fault.
    return Rule(name, "pass" if holds is True else "refuse", reason)


def _conclude(rules: list[Rule]) -> Decision:
    refused = any(rule.verdict == "refuse" for rule in rules)
    return Decision("refuse" if refused else "pass", tuple(rules))


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "evaluation"
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {message[:1].lower()}{message[1:]}{more}"[:400]
