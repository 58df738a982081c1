"""Who may put a version in front of users: a pure rule over tags, and the operations that set them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.registry.conftest import PASS, PROVENANCE, make_evidence, make_model
from tokka.errors import Refused, UsageError
from tokka.params import Params, parse_params
from tokka.registry import entities, publish, review
from tokka.registry.mlflow_client import Registry
from tokka.registry.review import decide_review
from tokka.settings import Settings

GATED = {entities.GATE: "pass"}
WORDS = st.sampled_from(["", "pass", "refuse", "approved", "refused", "waiting", "automatic", "Approved", "yes", " "])


def test_the_rule() -> None:
    approved = {**GATED, entities.REVIEW: "approved", entities.REVIEWER: "ana"}
    assert decide_review("automatic", GATED) == "approved"
    assert decide_review("required", GATED) == "waiting"
    assert decide_review("required", approved) == "approved"
    assert decide_review("required", {**approved, entities.REVIEWER: " "}) == "waiting"
    assert decide_review("required", {**GATED, entities.REVIEW: "automatic"}) == "waiting"
    assert decide_review("automatic", {**GATED, entities.REVIEW: "refused"}) == "refused"
    assert decide_review("automatic", {entities.GATE: "refuse", entities.OVERRIDE: "for a demonstration"}) == "approved"


@given(
    mode=st.sampled_from(["automatic", "required", "anything"]),
    tags=st.dictionaries(
        st.sampled_from([entities.GATE, entities.REVIEW, entities.REVIEWER, entities.OVERRIDE]), WORDS
    ),
)
def test_nothing_ungated_is_approved_and_nothing_refused_comes_back(mode: str, tags: dict[str, str]) -> None:
    verdict = decide_review(mode, tags)
    if tags.get(entities.GATE) != "pass" and not tags.get(entities.OVERRIDE, "").strip():
        assert verdict == "refused"
    if tags.get(entities.REVIEW) == "refused":
        assert verdict == "refused"
    if verdict == "approved" and mode != "automatic":
        assert tags[entities.REVIEW].strip() == "approved"
        assert tags[entities.REVIEWER].strip()


@pytest.fixture
def required(settings: Settings, params: Params, tmp_path: Path) -> Params:
    """A gated version 1 that waits for a person."""
    params = parse_params({"registry": {"model": params.registry.model, "review": "required"}})
    model = make_model(tmp_path / "model", weights=params.registry.model.encode())
    run_id = publish.log_evaluation(make_evidence(tmp_path / "e"), model, params, settings, "k1", PROVENANCE)
    (tmp_path / "gate").mkdir()
    publish.record_decision(run_id, PASS, tmp_path / "gate", params, settings)
    publish.register_candidate(run_id, params, settings)
    return params


def test_a_person_approves_refuses_and_changes_their_mind(settings: Settings, required: Params) -> None:
    assert review.review_version("1", required, settings) == "waiting"
    review.approve("1", "ana", "", required, settings)
    assert review.review_version("1", required, settings) == "approved"
    review.refuse("1", "ben", "slice e-mail is too weak", required, settings)
    assert review.review_version("1", required, settings) == "refused"
    with pytest.raises(UsageError, match="needs a reason"):
        review.approve("1", "ana", "", required, settings)
    review.approve("1", "ana", "e-mail is out of scope", required, settings)
    shown = review.show_version("1", required, settings)
    assert [entry["verdict"] for entry in shown["reviews"]] == ["approved", "refused", "approved"]
    assert (shown["verdict"], shown["reviewer"], shown["comment"]) == ("approved", "ana", "e-mail is out of scope")
    assert review.list_versions(required, settings)[0]["verdict"] == "approved"


@pytest.mark.parametrize(("reviewer", "comment"), [("", "why"), (" ", "why"), ("ana", ""), ("ana", "  ")])
def test_a_refusal_needs_a_name_and_a_reason(reviewer: str, comment: str, settings: Settings, required: Params) -> None:
    with pytest.raises(UsageError):
        review.refuse("1", reviewer, comment, required, settings)
    assert review.review_version("1", required, settings) == "waiting"


def test_a_version_that_was_never_gated_is_not_approved(settings: Settings, required: Params) -> None:
    registry = Registry(settings, required.registry.model)
    registry.tag_version("1", {entities.GATE: "missing"})
    with pytest.raises(Refused, match="never passed by the gate"):
        review.approve("1", "ana", "looks fine", required, settings)
    assert review.review_version("1", required, settings) == "refused"
