"""A rollout that somebody else drives: what comes of a wish, and never "promoted" of what nothing serves."""

import pytest

from tests.fakes.world import ADMITTED, Clock, FakeAdmission, FakeRegistry, VersionTags
from tokka.deployment import remote
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.leases import Leases
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision
from tokka.deployment.record.target import Observed
from tokka.deployment.record.wishes import RECONCILER, Wishes
from tokka.errors import UsageError
from tokka.params import parse_params
from tokka.sections_serving import Deployment

PARAMS = parse_params({"registry": {"model": "desk"}})
ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)


class Cluster:
    """A reconciler, played one move at each look of the pipeline."""

    def __init__(self, url):
        self.clock = Clock()
        self.record = Record(url, self.clock)
        self.wishes, self.leases = Wishes(self.record), Leases(self.record)
        self.registry = FakeRegistry()
        self.registry.of = {"2": VersionTags(dict(ADMITTED))}
        self.record.compare_and_set(self.record.read("desk"), champion=ONE)
        self.moves, self.lives, self.topic = [], False, "lost"
        self.clock.on_sleep = self.move

    def move(self):
        if self.lives:
            Claims(self.record).take(RECONCILER, "replica", seconds=30)
        if self.moves:
            self.moves.pop(0)()

    def change(self, action="", **changes):
        said = {"version": "2", "rollout": "r", "action": action, "topic": self.topic, "reasons": ["it was proven"]}
        decision = {"decision": said} if action else {}
        self.record.compare_and_set(self.record.read("desk"), **decision, **changes)

    def take(self):
        assert self.wishes.take(self.wishes.find("desk"))

    def challenge(self):
        self.change(challenger=TWO, phase="step", share=0.1, rollout="r")

    def promote(self):
        self.change("finish", champion=TWO, previous=ONE, challenger=None, share=0.0, phase="idle")

    def show(self, revision=TWO, ready=True):
        self.wishes.show("desk", Observed(champion=revision.digest, ready=(revision.digest,) if ready else ()))

    def ask(self):
        return remote.request_rollout("2", FakeAdmission(self.registry), self.record, PARAMS, "job")

    @property
    def champion(self):
        return self.record.read("desk").champion


@pytest.fixture
def here(record_url, monkeypatch):
    # Each look is some connections to a server.
    monkeypatch.setattr(remote, "POLL_S", 20.0)
    return Cluster(record_url)


def test_without_a_reconciler_it_is_held_and_wanted_no_more(here):
    result = here.ask()
    assert result.verdict == "held"
    assert "no reconciler is alive" in result.reasons[0] and "champion keeps serving" in result.reasons[0]
    assert (here.champion, here.wishes.find("desk")) == (ONE, None)


def test_a_reconciler_that_takes_nothing_up_is_named(here):
    here.lives = True
    assert "has not taken it up" in here.ask().reasons[0]


def test_a_wish_that_is_taken_up_at_the_last_moment_is_waited_for(here, monkeypatch):
    withdraw = here.wishes.withdraw

    def too_late(_, wish):
        here.take()
        here.lives, here.moves = True, [here.challenge, here.promote, here.show]
        return withdraw(wish)

    monkeypatch.setattr(Wishes, "withdraw", too_late)
    assert here.ask().verdict == "promoted"


def test_promoted_is_said_once_it_is_seen_to_serve(here):
    here.lives = True
    here.moves = [here.take, here.challenge, here.promote, lambda: here.show(ONE), lambda: here.show(ready=False)]
    seen = []
    here.moves.append(lambda: seen.append(here.clock.now) or here.show())
    result = here.ask()
    assert result.verdict == "promoted"
    assert here.clock.now == seen[0], "not before"
    assert [phase["action"] for phase in result.phases] == ["finish"]


def test_a_champion_that_nobody_sees_serve_is_held(here):
    here.lives = True
    here.moves = [here.take, here.challenge, here.promote]
    result = here.ask()
    assert result.verdict == "held" and "nothing is seen to serve" in result.reasons[0]
    assert here.wishes.find("desk") is None


def test_rolled_back_comes_with_its_reasons(here):
    here.lives = True
    here.moves = [here.take, here.challenge, lambda: here.change("roll_back", challenger=None, share=0.0, phase="idle")]
    result = here.ask()
    assert (result.verdict, result.reasons, here.champion) == ("rolled_back", ("it was proven",), ONE)


def test_what_was_rolled_back_before_is_asked_for_anew_by_another_run(here):
    here.lives = True
    here.moves = [here.take, here.challenge, lambda: here.change("roll_back", challenger=None, share=0.0, phase="idle")]
    assert here.ask().verdict == "rolled_back"
    here.clock.now += 1
    here.moves = [here.take, here.challenge, here.promote, here.show]
    assert (
        remote.request_rollout("2", FakeAdmission(here.registry), here.record, PARAMS, "another").verdict == "promoted"
    )


def test_what_evidence_has_rolled_back_is_not_tried_again_by_repetition(here):
    here.topic, here.lives = "quality", True
    here.change("roll_back", challenger=None, share=0.0, phase="idle")
    here.clock.now += 1
    result = here.ask()
    assert (result.verdict, result.reasons, here.wishes.find("desk")) == ("rolled_back", ("it was proven",), None)


def test_a_rollout_that_is_under_way_is_not_asked_for_again(here):
    here.wishes.ask("desk", "2", "before", {})
    here.take()
    here.challenge()
    wish, here.lives, here.moves = here.wishes.find("desk"), True, [here.promote, here.show]
    assert here.ask().verdict == "promoted"
    assert here.wishes.find("desk") == wish


def test_another_wish_takes_its_place(here):
    here.lives = True
    here.moves = [lambda: here.wishes.ask("desk", "3", "other", {})]
    assert here.ask().verdict == "superseded"
    assert here.wishes.find("desk").version == "3", "whoever came later is not withdrawn"


def test_a_reconciler_that_dies_in_mid_rollout_is_held_after_a_while(here):
    here.lives = True
    here.moves = [here.take, here.challenge, lambda: setattr(here, "lives", False)]
    result = here.ask()
    assert result.verdict == "held" and "mid-rollout" in result.reasons[0]
    assert here.wishes.find("desk") is None, "what is said to be held is wanted no more, taken up or not"
    assert here.champion == ONE


def test_a_run_that_ends_wants_nothing_more(here):
    here.wishes.ask("desk", "2", "job", {})
    assert here.leases.end("job", succeeded=False)["wanted"] == 1
    assert here.wishes.find("desk") is None


def test_a_version_that_waits_for_its_review_is_not_asked_for(here):
    here.registry.of["2"].tags["tokka.review"] = "waiting"
    params = PARAMS.model_copy(update={"registry": PARAMS.registry.model_copy(update={"review": "required"})})
    result = remote.request_rollout("2", FakeAdmission(here.registry, "required"), here.record, params, "job")
    assert result.verdict == "held" and here.wishes.find("desk") is None


@pytest.mark.parametrize(
    "target, in_pod, found",
    [("auto", False, "local"), ("auto", True, "kserve"), ("local", False, "local"), ("kserve", False, "kserve")],
)
def test_where_a_rollout_goes(target, in_pod, found):
    assert remote.target_of(Deployment(target=target), in_pod=in_pod) == found


def test_the_stack_of_a_pod_is_refused():
    with pytest.raises(UsageError, match="ends with the pod"):
        remote.target_of(Deployment(target="local"), in_pod=True)
