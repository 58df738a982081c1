"""What a rollout does next, phase by phase."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.deployment.judge.evidence import Pairs, Traffic
from tokka.deployment.judge.live_judge import judge_ab
from tokka.deployment.judge.phases import Evidence, next_action
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Answer, Observed
from tokka.sections_serving import Canary

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
CANARY = Canary(steps=(0.1, 0.5), step_requests=50, shadow_rows=100, error_margin=0.3, slow_margin=0.3)
WARM = State(endpoint="desk", generation=4, champion=ONE, challenger=TWO, phase="warm_up", updated=100.0)
SHADOW = WARM.model_copy(update={"phase": "shadow"})
STEP = WARM.model_copy(update={"phase": "step", "share": 0.1})
LAST = WARM.model_copy(update={"phase": "step", "share": 0.5})
WATCH = State(endpoint="desk", generation=9, champion=TWO, previous=ONE, phase="watch", promoted=100.0)
SOUND = (Answer(label="a", score=0.5),)
ALIKE = Pairs(*[np.zeros(400)] * 3)


def seen(state: State, *ready: Revision, **changes) -> Observed:
    facts = {"generation": state.generation, "share": state.share, "ready": tuple(one.digest for one in ready)}
    return Observed(**{**facts, **changes})


def requests(n: int, share: float, failed: float = 0.0) -> Traffic:
    canary = (np.arange(n) < n * share).astype(float)
    zero, order = np.zeros(n), np.arange(n, dtype=float)
    columns = dict.fromkeys(("slow", "wrong", "replayed", "refused"), zero)
    return Traffic(canary=canary, share=np.full(n, share), failed=canary * failed, key=order, told=order, **columns)


def test_warm_up_waits_for_a_worker_a_split_and_sound_predictions():
    def topic(observed, smoke=()):
        return next_action(WARM, Evidence(observed, smoke=smoke), CANARY, 101.0).topic

    assert topic(None) == "not ready"
    assert topic(seen(WARM, ONE)) == "not ready"
    assert topic(seen(WARM, ONE, TWO, generation=3), SOUND) == "not ready"
    assert topic(seen(WARM, TWO)) == "no smoke"
    assert topic(seen(WARM, TWO), (Answer(label="a"), Answer(error="500"))) == "smoke"
    assert topic(seen(WARM, TWO), SOUND) == "warm"
    by_version = seen(WARM).model_copy(update={"ready": ("2",)})
    assert next_action(WARM, Evidence(by_version, smoke=SOUND), CANARY, 101.0).changes == {"phase": "shadow"}


def test_a_version_that_cannot_start_says_why_to_the_end():
    told = seen(WARM, ONE, problems={TWO.digest: "its model is not signed"})
    waits = next_action(WARM, Evidence(told), CANARY, 101.0)
    assert (waits.topic, waits.reasons) == ("cannot start", ("version 2 is not ready: its model is not signed",))
    ends = next_action(WARM, Evidence(told), CANARY, 100 + CANARY.warm_up_s)
    assert ends.reasons[-1] == waits.reasons[0]
    lost = Evidence(seen(LAST, ONE, problems={"2": "out of memory"}), lost_s=CANARY.lost_s + 1)
    assert next_action(LAST, lost, CANARY, 101.0).reasons[0].endswith("30 s: out of memory")


def test_warm_up_has_its_own_limit():
    action = next_action(WARM, Evidence(), CANARY, 100 + CANARY.warm_up_s)
    assert (action.kind, action.topic) == ("roll_back", "held")
    assert action.changes["challenger"] is None and action.changes["phase"] == "idle"


def test_the_first_version_is_promoted_by_what_it_is():
    first = WARM.model_copy(update={"champion": None})
    action = next_action(first, Evidence(seen(first, TWO), smoke=SOUND), CANARY, 101.0)
    assert action.kind == "promote"
    assert (action.changes["champion"], action.changes["previous"], action.changes["phase"]) == (TWO, None, "idle")


def test_the_shadow_goes_on_to_the_first_step_when_enough_was_asked():
    few = Pairs(difference=np.zeros(99), disagreement=np.zeros(99), exhausted=False)
    assert next_action(SHADOW, Evidence(pairs=few), CANARY, 101.0).kind == "wait"
    assert next_action(SHADOW, Evidence(pairs=ALIKE), CANARY, 101.0).changes == {"phase": "step", "share": 0.1}


def test_an_undecided_shadow_waits_for_live_traffic_only():
    undecided = {"difference": np.zeros(10), "disagreement": np.zeros(10), "exhausted": True}
    assert next_action(SHADOW, Evidence(pairs=Pairs(**undecided, live=True)), CANARY, 101.0).kind == "wait"
    assert next_action(SHADOW, Evidence(pairs=Pairs(**undecided)), CANARY, 101.0).kind == "roll_back"
    late = next_action(SHADOW, Evidence(pairs=Pairs(**undecided, live=True)), CANARY, 100 + CANARY.maximum_wait_s)
    assert (late.kind, late.topic) == ("roll_back", "held")


def test_steps_follow_each_other_up_to_the_promotion():
    action = next_action(STEP, Evidence(seen(STEP, TWO), traffic=requests(60, 0.1)), CANARY, 102.0)
    assert (action.kind, action.changes) == ("go_on", {"share": 0.5})
    action = next_action(LAST, Evidence(seen(LAST, TWO), traffic=requests(60, 0.5)), CANARY, 102.0)
    assert action.kind == "promote"
    assert action.changes["champion"] == TWO and action.changes["previous"] == ONE
    assert action.changes["share"] == 0.0 and action.changes["phase"] == "watch"
    quick = CANARY.model_copy(update={"watch_s": 0.0})
    assert (
        next_action(LAST, Evidence(seen(LAST, TWO), traffic=requests(60, 0.5)), quick, 102.0).changes["phase"] == "idle"
    )


def test_a_promotion_needs_proof_and_an_earlier_step_does_not():
    strict = CANARY.model_copy(update={"error_margin": 0.02})
    assert next_action(STEP, Evidence(seen(STEP, TWO), traffic=requests(60, 0.1)), strict, 102.0).kind == "go_on"
    action = next_action(LAST, Evidence(seen(LAST, TWO), traffic=requests(60, 0.5)), strict, 102.0)
    assert action.kind == "wait" and "not yet proven that failures" in action.reasons[0]
    late = next_action(LAST, Evidence(seen(LAST, TWO), traffic=requests(60, 0.5)), strict, 100 + strict.maximum_wait_s)
    assert late.kind == "roll_back"
    assert next_action(LAST, Evidence(seen(LAST, TWO), traffic=requests(900, 0.5)), strict, 102.0).kind == "promote"


def test_a_step_is_not_passed_before_its_time_nor_on_a_split_that_is_not_there():
    enough = requests(60, 0.1)
    assert next_action(STEP, Evidence(seen(STEP, TWO), traffic=enough), CANARY, 100.5).kind == "wait"
    other = seen(STEP, TWO, share=0.0)
    assert next_action(STEP, Evidence(other, traffic=enough), CANARY, 102.0).topic == "not applied"
    assert next_action(STEP, Evidence(None, traffic=enough), CANARY, 102.0).topic == "not applied"


def test_bad_news_is_acted_on_at_once():
    bad = Evidence(None, traffic=requests(60, 0.5, failed=1.0))
    action = next_action(LAST, bad, CANARY, 100.0)
    assert (action.kind, action.topic) == ("roll_back", "live")
    assert action.changes == {"challenger": None, "share": 0.0, "phase": "idle", "reason": action.reasons[0]}


@pytest.mark.parametrize("state", [SHADOW, STEP])
def test_a_challenger_without_workers_is_given_up_after_a_while(state):
    wait = next_action(state, Evidence(seen(state, ONE), lost_s=CANARY.lost_s), CANARY, 101.0)
    action = next_action(state, Evidence(seen(state, ONE), lost_s=CANARY.lost_s + 1), CANARY, 101.0)
    assert action.topic == "lost" and wait.topic != "lost"


def test_the_watch_ends_goes_back_or_waits():
    good, bad = requests(100, 0.0), Traffic(**{**vars(requests(100, 0.0)), "failed": np.ones(100)})
    before = requests(200, 0.25)
    assert next_action(WATCH, Evidence(before=before, after=good), CANARY, 101.0).kind == "wait"
    end = next_action(WATCH, Evidence(before=before, after=good), CANARY, 100 + CANARY.watch_s)
    assert (end.kind, end.changes) == ("finish", {"phase": "idle"})
    # Seven failures of seven are no proof yet, and no reason to look away.
    few = Evidence(before=before, after=bad.where(np.arange(bad.size) < 7))
    assert next_action(WATCH, few, CANARY, 100 + CANARY.watch_s).kind == "wait"
    assert next_action(WATCH, few, CANARY, 100 + CANARY.maximum_wait_s).kind == "finish"
    back = next_action(WATCH, Evidence(before=before, after=bad), CANARY, 101.0)
    assert back.changes["champion"] == ONE and back.changes["previous"] is None
    alone = WATCH.model_copy(update={"previous": None})
    assert next_action(alone, Evidence(before=before, after=bad), CANARY, 101.0).kind == "finish"


def test_a_promoted_version_without_workers_gives_way_only_to_one_that_has_some():
    lost = {"lost_s": CANARY.lost_s + 1}
    assert next_action(WATCH, Evidence(seen(WATCH), **lost), CANARY, 101.0).kind == "wait"
    assert next_action(WATCH, Evidence(seen(WATCH, ONE), **lost), CANARY, 101.0).kind == "roll_back"


def test_a_state_in_which_nothing_rolls_out_has_no_next_action():
    with pytest.raises(ValueError, match="no challenger"):
        next_action(State(endpoint="desk"), Evidence(), CANARY, 1.0)


AB = WARM.model_copy(update={"phase": "ab", "share": 0.3, "ab_share": 0.3})


def test_the_warm_up_of_an_ab_test_leads_to_its_share():
    asked = WARM.model_copy(update={"ab_share": 0.3})
    action = next_action(asked, Evidence(seen(asked, TWO), smoke=SOUND), CANARY, 101.0)
    assert (action.kind, action.changes) == ("go_on", {"phase": "ab", "share": 0.3})
    assert next_action(asked, Evidence(), CANARY, 100 + CANARY.warm_up_s).topic == "held"


@given(
    n=st.integers(0, 300), seed=st.integers(0, 1000), rates=st.tuples(*[st.floats(0, 1)] * 2),
    lost_s=st.floats(0, 1e6), now=st.floats(0, 1e9),
    observed=st.sampled_from([None, seen(AB, ONE, TWO), seen(AB, ONE)]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_an_ab_test_waits_or_rolls_back_for_a_reason_and_never_promotes(n, seed, rates, lost_s, now, observed):
    random = np.random.default_rng(seed)
    made = requests(n, 0.3)
    failed = (random.random(n) < np.where(made.canary == 1, *rates)).astype(float)
    traffic = Traffic(**{**vars(made), "failed": failed, "canary": random.permutation(made.canary)})
    action = next_action(AB, Evidence(observed, lost_s, traffic=traffic), CANARY, now)
    lost = lost_s > CANARY.lost_s
    proven = judge_ab(traffic, CANARY.alpha).verdict == "roll_back"
    assert action.kind == ("roll_back" if lost or proven else "wait")
    assert "champion" not in action.changes
    assert action.changes == {} or (action.changes["phase"], action.changes["challenger"]) == ("idle", None)
    if not lost:
        assert proven == (action.values["errors"] >= action.values["errors_limit"])


@given(garbage=st.sampled_from([np.nan, np.inf, -1.0, 7.0]), n=st.integers(1, 300))
def test_an_ab_test_is_not_ended_by_what_makes_no_sense(garbage, n):
    column = np.full(n, garbage)
    traffic = Traffic(**dict.fromkeys(vars(requests(n, 0.3)), column))
    assert next_action(AB, Evidence(traffic=traffic), CANARY, 101.0).kind == "wait"
