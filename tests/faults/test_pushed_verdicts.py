"""Nobody who may only ask can move a verdict: simulated callers that know the side of a user once it is answered."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.deployment.judge.evidence import Pairs
from tokka.deployment.judge.live_judge import judge_ab, judge_traffic, judge_watch
from tokka.deployment.judge.shadow_judge import judge_pairs
from tokka.deployment.traffic_columns import FEEDBACK_S, TrafficColumns, is_excused
from tokka.sections_serving import Canary

CANARY = Canary()
SHARE = 0.25
# What a caller can have happen to a request of its own, on a side that it knows.
PUSHES = ("refused", "aborted late", "slow by size", "wrong label", "named a version", "shed", "unanswered")
NEW = "new user"


class Log:
    """Two sound versions, and a caller that asks under as many user names as it likes."""

    def __init__(self, seed: int) -> None:
        self.random, self.records, self.sides = random.Random(seed), [], {}

    def ask(self, user: str, push: str = "", client: str = "evil", **facts) -> bool:
        """One request; whether it went to the challenger, which its sender learns by it."""
        side = self.sides.setdefault((client, user), self.random.random() < SHARE)
        name, time = f"p{len(self.records)}", float(len(self.records))
        version = "2" if side else "1"
        line = {
            "kind": "request", "prediction_id": name, "time": time, "status": 200, "latency_ms": 10.0, "share": SHARE,
            "assigned": side, "version": version, "route": "predict", "client": client, "key": f"{client}|{user}",
        }  # fmt: skip
        changes = {
            "refused": {"status": 422}, "aborted late": {"status": 200, "aborted": True, "latency_ms": 900.0},
            "slow by size": {"latency_ms": 900.0}, "named a version": {"status": 404 if side else 200, "named": True},
            "shed": {"status": 503, "shed": True, "version": ""}, "unanswered": {"status": 504},
        }  # fmt: skip
        self.records.append({**line, **changes.get(push, {}), **facts})
        runs = 16 if push == "slow by size" else 1
        self.records.append({**line, "kind": "prediction", "label": "x", "runs": runs})
        if push == "wrong label":
            self.tell(name, time, client=client)
        return side

    def tell(self, name: str, time: float, **facts) -> None:
        self.records.append({"kind": "feedback", "prediction_id": name, "time": time + 1, "label": "y", **facts})

    def traffic(self):
        columns = TrafficColumns(challenger="2", slow_ms=CANARY.slow_ms)
        columns.take(self.records)
        return columns.traffic()


def attack(push: str, seed: int, *, ids: int = 200, each: int = 5) -> Log:
    """Learn the side of each user by a request, then push on those of the challenger, and ask well on all others."""
    log = Log(seed)
    for number in range(ids):
        user = f"u{number}"
        if log.ask(user, push if seed % 2 else ""):
            for _ in range(each):
                log.ask(user, push)
    return log


@pytest.mark.parametrize("push", PUSHES)
def test_a_caller_with_many_users_moves_no_verdict(push):
    """Also by its first requests, whose side it cannot know: then it has the chance of any equal versions, alpha."""
    moved = [judge_traffic(attack(push, seed).traffic(), SHARE, CANARY).verdict == "roll_back" for seed in range(40)]
    moved += [judge_ab(attack(push, seed).traffic(), CANARY.alpha).verdict == "roll_back" for seed in range(40)]
    print(f"\n{push}: {len(moved)} attacks, {sum(moved)} verdicts moved")
    assert sum(moved) / len(moved) <= CANARY.alpha


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["", *PUSHES[:-1]])), max_size=150), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_what_a_caller_alone_can_make_happen_is_no_evidence_at_all(asked, seed):
    """Deterministically: whatever it sends, knowing every side, there is no event that counts without it."""
    log = Log(seed)
    for user, push in asked:
        log.ask(f"u{user}", push if push != "aborted late" or (("evil", f"u{user}") in log.sides) else "")
    judged = judge_traffic(log.traffic(), SHARE, CANARY)
    assert judged.verdict != "roll_back"
    assert all(judged.values[name] == 1.0 for name in ("errors", "slow", "wrong", "refused"))


@pytest.mark.parametrize("push", ["refused", "aborted late", "slow by size", "wrong label", "shed"])
def test_after_the_promotion_neither(push):
    before, after = Log(1), Log(2)
    for number in range(300):
        before.ask(f"u{number}")
        after.ask(f"u{number}", push)
    assert judge_watch(before.traffic(), after.traffic(), CANARY).verdict == "hold"


@pytest.mark.parametrize("push", ["refused", "wrong label"])
def test_what_several_callers_see_counts(push):
    log = Log(5)
    for number in range(600):
        client = f"app{number % 3}"
        user, bad = f"u{number}", log.random.random() < 0.5
        side = log.ask(user, client=client)
        if side and bad:
            log.sides[client, f"{user}'"] = side
            log.ask(f"{user}'", push, client=client)
    assert judge_traffic(log.traffic(), SHARE, CANARY).verdict == "roll_back"


def test_the_word_of_whom_we_trust_counts_in_full_and_takes_the_place_of_another():
    log = Log(5)
    for number in range(400):
        side = log.ask(f"u{number}")
        name, time = str(log.records[-1]["prediction_id"]), float(number)
        log.tell(name, time, client="evil", label="x")
        if side:
            log.tell(name, time, client="labels", trusted=True)
    traffic = log.traffic()
    assert judge_traffic(traffic, SHARE, CANARY).verdict == "roll_back"
    assert traffic.wrong[traffic.canary == 1].all() and not traffic.wrong[traffic.canary == 0].any()


def test_feedback_counts_once_for_what_was_asked_and_in_its_time():
    log = Log(1)
    log.ask("u")
    name = str(log.records[-1]["prediction_id"])
    log.tell("never asked", 1.0)
    log.tell(name, FEEDBACK_S + 1)
    assert math.isnan(log.traffic().wrong[0])
    log = Log(1)
    log.ask("u")
    log.tell(name, 1.0, label="x")
    log.tell(name, 2.0)
    log.tell(name, 2.0, client="evil")
    assert log.traffic().wrong.tolist() == [0.0]


def test_what_was_logged_is_never_overwritten():
    log = Log(1)
    log.ask("u")
    line, prediction = log.records
    log.records += [
        {**line, "status": 500, "assigned": True},
        {**prediction, "label": "y", "version": "2", "runs": 0.01},
    ]
    log.tell(str(line["prediction_id"]), 2.0, label="x")
    traffic = log.traffic()
    assert (traffic.size, traffic.failed.tolist(), traffic.wrong.tolist()) == (1, [0.0], [0.0])


@pytest.mark.parametrize(
    ("facts", "excused"),
    [({"status": 200}, False), ({"status": 500}, False), ({"status": 503}, False), ({"status": 504}, False),
     ({"status": -1}, False), ({"status": 400}, True), ({"status": 413}, True), ({"status": 422}, True),
     ({"status": 200, "named": True}, True), ({"status": 503, "shed": True}, True),
     ({"status": 200, "aborted": True}, True)],
)  # fmt: skip
def test_what_both_sides_need_not_treat_alike_is_no_evidence(facts, excused):
    assert is_excused(facts) is excused


@pytest.mark.parametrize("giver", [math.nan, 7.0])
def test_the_labels_of_one_caller_decide_no_shadow(giver):
    n = 300
    lost = Pairs(
        difference=np.full(n, -1.0), disagreement=np.ones(n), speed=np.zeros(n), giver=np.full(n, giver),
        replayed=np.zeros(n),
    )  # fmt: skip
    assert judge_pairs(lost, CANARY).verdict == ("roll_back" if math.isnan(giver) else "hold")
    won = Pairs(
        difference=np.ones(n), disagreement=np.ones(n), speed=np.zeros(n), giver=np.full(n, giver), exhausted=True
    )
    assert judge_pairs(won, CANARY).verdict == ("promote" if math.isnan(giver) else "hold")
