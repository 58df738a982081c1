"""Who may serve: what each review is worth, and that nothing but an approval that holds lets a version through."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.deployment.review.admission import HOUR, LONGEST_TRAIL, decide_review, request, trail
from tokka.deployment.review.signatures import Review
from tokka.params import parse_params
from tokka.registry import entities
from tokka.registry.bundle import Bundle
from tokka.registry.entities import VersionInfo
from tokka.sections_serving import Review as Rule

NOW, SERVES = 1e6, "c" * 64
BUNDLE = Bundle(run_id="r", model="desk", version="2", model_digest="b" * 64, champion_digest=SERVES, verdict="pass",
                author="ana")  # fmt: skip


def review(verdict="approved", reviewer="ben", bundle=BUNDLE, **changes):
    given = {"model": bundle.model, "version": bundle.version, "model_digest": bundle.model_digest,
             "evidence_digest": bundle.digest, "champion_digest": SERVES, "time": NOW,
             "comment": "I looked"}  # fmt: skip
    return Review(verdict=verdict, reviewer=reviewer, **given | changes)


def verdict(*reviews, rule=None, bundle=BUNDLE, mode="required", champion=SERVES, now=NOW):
    return decide_review(mode, rule or Rule(), bundle, reviews, champion, now)


def test_a_version_waits_until_somebody_approves_it():
    assert verdict().verdict == "waiting"
    assert verdict(review()).verdict == "approved"
    assert verdict(review()).reviewer == "ben"
    assert verdict(mode="automatic").verdict == "approved"


def test_the_trail_has_the_newest_first_and_fits_into_a_tag():
    told = trail([review(), review("refused", "ana", comment="too\nslow", in_mlflow=True)]).splitlines()
    assert told[0].startswith("1970-01-12 13:46:40 UTC: refused by ana (in MLflow), seen: evidence ")
    assert told[0].endswith("champion cccccccccccc. too slow")
    assert told[1].endswith("approved by ben (signed), seen: " + told[1].rpartition("seen: ")[2])
    assert len(trail([review(comment="x" * 400)] * 100)) <= LONGEST_TRAIL


def test_a_refusal_is_of_the_model_and_holds_for_ever():
    refusal = review("refused", version="1")
    for mode in ("automatic", "required"):
        found = verdict(refusal, review(), mode=mode)
        assert found.verdict == "refused"
        assert "ben refused this model: I looked" in found.reason


def test_what_no_gate_passed_is_refused_unless_a_reason_is_on_record():
    failed = BUNDLE.model_copy(update={"verdict": "refuse", "reasons": ("too slow",)})
    assert verdict(review(bundle=failed), bundle=failed).reason == "the gate did not pass it: too slow"
    past = failed.model_copy(update={"override": "a demonstration"})
    assert verdict(review(bundle=past), bundle=past).verdict == "approved"


@pytest.mark.parametrize(
    ("approval", "rule", "champion", "words"),
    [
        (review(evidence_digest="0" * 64), {}, SERVES, "the evidence has changed since"),
        (review(model_digest="0" * 64), {}, SERVES, "it is of another model"),
        (review(), {}, "e" * 64, "now eeeeeeeeeeee serves; evaluate it against that one: tokka review evaluate 2"),
        (review(), {}, "", "now none serves"),
        (review(reviewer="ana"), {"four_eyes": True}, SERVES, "the author of a run does not approve it"),
        (review(time=NOW - 25 * HOUR), {"expires_hours": 24}, SERVES, "older than review.expires_hours (24)"),
    ],
)
def test_an_approval_that_does_not_hold_says_why(approval, rule, champion, words):
    found = verdict(approval, rule=Rule(**rule), champion=champion)
    assert found.verdict == "waiting"
    assert words in found.reason and approval.reviewer in found.reason


def test_four_eyes_need_to_know_the_author():
    nobodys = BUNDLE.model_copy(update={"author": ""})
    found = verdict(review(bundle=nobodys), bundle=nobodys, rule=Rule(four_eyes=True))
    assert "does not name its author" in found.reason


def test_an_approval_of_another_version_of_the_same_model_does_not_count():
    assert verdict(review(version="1")).verdict == "waiting"


reviews = st.builds(
    review, st.sampled_from(["approved", "refused"]), st.sampled_from(["ana", "ben"]),
    version=st.sampled_from(["1", "2"]), time=st.floats(0, NOW), by_tag=st.booleans(),
    evidence_digest=st.sampled_from([BUNDLE.digest, "0" * 64]), model_digest=st.just(BUNDLE.model_digest),
)  # fmt: skip


@given(st.lists(reviews, max_size=5), st.booleans(), st.none() | st.floats(1, 300), st.sampled_from([SERVES, "", "e"]))
@settings(max_examples=300, deadline=None)
def test_nothing_is_approved_without_an_approval_that_holds(found, four_eyes, expires, champion):
    said = verdict(*found, rule=Rule(four_eyes=four_eyes, expires_hours=expires), champion=champion)
    if any(one.verdict == "refused" for one in found):
        assert said.verdict == "refused"
    elif said.verdict == "approved":
        last = [one for one in found if one.version == "2"][-1]
        assert last.evidence_digest == BUNDLE.digest and champion == SERVES
        assert not (four_eyes and last.reviewer == "ana")
        assert expires is None or NOW - last.time <= expires * HOUR


def test_a_tag_or_an_alias_is_a_request():
    def asked(aliases=(), **tags):
        names = {"review": entities.REVIEW, "reviewer": entities.REVIEWER, "comment": entities.REVIEW_COMMENT}
        return request(VersionInfo("2", tags={names[name]: word for name, word in tags.items()}, aliases=aliases))

    assert asked() is None
    assert asked(review="waiting") is None
    assert asked(review=" Approved ", reviewer="ben") == ("approved", "ben", "")
    assert asked(aliases=("approved",)) == ("approved", "somebody (tag in MLflow)", "")
    assert asked(aliases=("approved",), review="refused", comment="no") == (
        "refused", "somebody (tag in MLflow)", "no")  # fmt: skip


def test_four_eyes_by_tag_are_refused_in_words():
    with pytest.raises(Exception, match="MLflow does not say who set a tag"):
        parse_params({"review": {"four_eyes": True, "trust": "open"}})
