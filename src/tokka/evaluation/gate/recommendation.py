"""Specialised or general? From what every way costs and how good it is to a recommendation, by `Rule.sentence`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from tokka.evaluation.gate.prices import DAYS, bill, training_cost
from tokka.sections import Prices

Kind = Literal["specialist", "simple", "general"]
Verdict = Literal["specialise", "stay simple", "stay general", "undecided"]
VERDICTS: dict[Kind, Verdict] = {"specialist": "specialise", "simple": "stay simple", "general": "stay general"}


@dataclass(frozen=True)
class Row:
    """One way to do the task. None: not measured, or not recorded; `problem` says why a whole row is empty.

    quality, low, high: the gated metric with its interval on `rows` test rows. gap_low: the low end of the paired
    interval of this row minus the best one, positive when this row is better. token_price: of one prediction, for
    what is paid by token; else cpu_ms and memory_mb make the price. same_rows: the specialist's quality on the rows of
    a sample. unbeaten: the simple ways that a specialist does not beat beyond chance.
    """

    name: str
    kind: Kind
    title: str
    quality: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    gap_low: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    size_mb: float | None = None
    cpu_ms: float | None = None
    memory_mb: float | None = None
    token_price: float | None = None
    training_cpu_seconds: float | None = None
    labelled_rows: int | None = None
    energy: dict[str, object] = field(default_factory=dict)
    same_rows: dict[str, float] = field(default_factory=dict)
    unbeaten: list[str] = field(default_factory=list)
    operations: str = ""
    note: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Rule:
    """margin is in units of the metric; `higher` says whether more of the metric is better."""

    margin: float
    latency_budget_ms: float
    higher: bool = True

    def sentence(self) -> str:
        """The rule for people."""
        return (
            f"The cheapest per month among the ways whose 99th percentile of latency is at most "
            f"{self.latency_budget_ms:g} ms and which are not worse than the best of them by more than "
            f"{self.margin:.3g}: the low end of the paired difference on the same rows (without one, the pessimistic "
            "end of the own interval) must stay above that. A tie goes to the better, then to the faster. A fine-tuned "
            "model that does not beat every simple way (linear head, TF-IDF) beyond chance is not recommended."
        )


@dataclass(frozen=True)
class Recommendation:
    """`name` is that of the recommended row, empty when undecided; `good_enough` are the rows it was chosen from."""

    verdict: Verdict
    name: str
    reason: str
    good_enough: tuple[str, ...] = ()


def per_month(row: Row, prices: Prices) -> float | None:
    """Money for a month of `prices.requests_per_day`; None when it was not measured."""
    if row.token_price is not None:
        return row.token_price * prices.requests_per_day * DAYS
    if row.cpu_ms is None or row.memory_mb is None:
        return None
    return bill(row.cpu_ms, row.memory_mb, prices).per_month


def best(rows: Sequence[Row], prices: Prices, rule: Rule) -> Row | None:
    """The row with the best point among those that have every figure, are fast enough, and beat what is simple."""
    fit = [row for row in rows if able(row, prices, rule) and not row.unbeaten]
    return min(fit, key=lambda row: (-_worth(row.quality, rule), *_order(row, prices, rule)), default=None)


def recommend(rows: Sequence[Row], prices: Prices, rule: Rule) -> Recommendation:
    """Ask the rule above. Never raises: without one usable row it says so."""
    leader = best(rows, prices, rule)
    if leader is None:
        return Recommendation("undecided", "", _why_nothing(rows, rule))
    known = [row for row in rows if able(row, prices, rule) and not row.unbeaten]
    good = [row for row in known if _good_enough(row, leader, rule)]
    chosen = min(good, key=lambda row: _order(row, prices, rule))
    why = _why(chosen, leader, good, prices) + _unbeaten(rows)
    return Recommendation(VERDICTS[chosen.kind], chosen.name, why, tuple(row.name for row in good))


def as_dict(row: Row, prices: Prices) -> dict[str, object]:
    """The row with its prices, as plain data for details.json."""
    month, trained = per_month(row, prices), row.training_cpu_seconds
    return {
        **asdict(row),
        "per_month": month,
        "per_1000": None if month is None else 1e3 * month / (DAYS * prices.requests_per_day),
        "training_cost": None if trained is None else training_cost(trained, prices),
    }


def able(row: Row, prices: Prices, rule: Rule) -> bool:
    """Whether a row has every figure and fits the latency budget."""
    measured = None not in (row.quality, row.low, row.high, row.p99_ms, per_month(row, prices))
    return measured and not row.problem and row.p99_ms is not None and row.p99_ms <= rule.latency_budget_ms


def _good_enough(row: Row, leader: Row, rule: Rule) -> bool:
    if row is leader:
        return True
    if row.gap_low is not None:
        return row.gap_low > -rule.margin
    pessimistic = row.low if rule.higher else row.high
    return _worth(pessimistic, rule) > _worth(leader.quality, rule) - rule.margin


def _worth(value: float | None, rule: Rule) -> float:
    """More is better, whatever the metric's direction."""
    known = float("nan") if value is None else value
    return known if rule.higher else -known


def _order(row: Row, prices: Prices, rule: Rule) -> tuple[float, float, float, str]:
    month = per_month(row, prices)
    return (month if month is not None else float("inf"), -_worth(row.quality, rule), row.p99_ms or 0.0, row.name)


def _why(chosen: Row, leader: Row, good: Sequence[Row], prices: Prices) -> str:
    money = f"{per_month(chosen, prices):,.2f} {prices.currency} a month"
    if len(good) == 1:
        return f"{chosen.title} is the only one that is good enough and fast enough, at {money}"
    if chosen is leader:
        return f"{chosen.title} is the best and, of {len(good)} that are good enough, the cheapest, at {money}"
    return (
        f"{chosen.title} is not worse than the best, {leader.title}, by more than the margin, and of {len(good)} "
        f"that are good enough it is the cheapest, at {money}"
    )


def _unbeaten(rows: Sequence[Row]) -> str:
    """What is not recommended since something simple is as good, in words."""
    said = [
        f"{row.title} does not beat {' and '.join(row.unbeaten)} beyond chance"
        for row in sorted(rows, key=lambda row: row.name)
        if row.unbeaten
    ]
    return "".join(f"; {one}, and so is not recommended" for one in said)


def _why_nothing(rows: Sequence[Row], rule: Rule) -> str:
    slow = [row for row in rows if row.p99_ms is not None and row.p99_ms > rule.latency_budget_ms]
    if slow and len(slow) == len([row for row in rows if not row.problem]):
        return f"none of {len(slow)} ways answers within {rule.latency_budget_ms:g} ms, 99 times of 100"
    return "no way has all the figures that the rule needs"
