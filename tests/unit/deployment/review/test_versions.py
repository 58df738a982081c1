"""Deciding on a version with a real MLflow and record: what is kept, what is shown, and what forging is worth."""

import shutil
from pathlib import Path

import pytest

from tests.unit.registry.conftest import PASS, PROVENANCE, judged, make_evidence, make_model, make_settings
from tokka.deployment.reconcile import keep_aliases, lost_versions
from tokka.deployment.record.evidence import Evidence
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision
from tokka.deployment.review import versions
from tokka.deployment.review.admission import SignedAdmission
from tokka.errors import Refused, UsageError
from tokka.params import Params, parse_params
from tokka.registry import bundle, entities, publish
from tokka.registry.bundle import Judgement
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings
from tokka.steps.evaluate import find_champion


class Case:
    """A home with version 1 that waits for a person."""

    def __init__(self, settings: Settings, folder: Path, name: str) -> None:
        self.settings, self.folder, self.name = settings, folder, name
        self.record = Record(settings.record_url)
        self.register()

    def params(self, **review: object) -> Params:
        return parse_params({"registry": {"model": self.name, "review": "required"}, "review": review})

    def register(self, key: str = "k1") -> str:
        place, params, settings = self.folder / key, self.params(), self.settings
        model = make_model(place / "model", weights=self.name.encode())
        evidence = make_evidence(place / "evidence")
        run_id = publish.log_evaluation(evidence, model, params, settings, key, PROVENANCE)
        told = judged(run_id, evidence, model)
        publish.record_decision(run_id, PASS, place / "gate", params, settings)
        version, envelope = publish.register_candidate(run_id, params, settings, told)
        Evidence(self.record, self.name).keep(version, told.model_digest, envelope)
        return version

    def standing(self, version: str = "1", **review: object):
        return SignedAdmission(self.record, self.params(**review), self.settings).standing(version)

    def decide(self, verdict, version="1", reviewer="ben", comment="I looked", **review):
        return versions.decide(verdict, version, reviewer, comment, self.params(**review), self.settings)

    def tag(self, version: str = "1", **tags: str) -> None:
        names = {"review": entities.REVIEW, "gate": entities.GATE, "reviewer": entities.REVIEWER}
        Registry(self.settings, self.name).tag_version(version, {names[name]: word for name, word in tags.items()})


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Settings:
    return make_settings(tmp_path_factory.mktemp("versions"))


@pytest.fixture
def case(home, tmp_path, request):
    return Case(home, tmp_path, f"desk-{abs(hash(request.node.name)) % 10**8}")


def test_a_signed_approval_lets_it_through_and_leaves_a_trail(case):
    assert case.standing().verdict == "waiting"
    case.decide("approved")
    assert case.standing().verdict == "approved"
    shown = versions.show_version("1", case.params(), case.settings)
    (trail,) = shown["reviews"]
    assert (trail["verdict"], trail["reviewer"], trail["by_tag"]) == ("approved", "ben", False)
    assert trail["evidence_digest"] == shown["evidence"]["digest"]
    assert (shown["tags"][entities.REVIEW], shown["tags"][entities.REVIEWER]) == ("approved", "ben")
    told = shown["tags"][entities.REVIEW_HISTORY]
    assert f"approved by ben (signed), seen: evidence {shown['evidence']['digest'][:12]}" in told
    assert told.endswith("champion none. I looked")


def test_a_forged_tag_moves_nothing_and_is_told(case):
    case.tag(review="approved", reviewer="ben", gate="pass")
    Registry(case.settings, case.name).set_alias("approved", "1")
    assert case.standing().verdict == "waiting"
    (line,) = versions.list_versions(case.params(), case.settings)
    assert line["request"] == "approved by tag, which is a request: tokka review approve|refuse"
    case.tag(gate="refuse", review="refused")
    case.decide("approved")
    case.tag(review="refused")
    assert case.standing().verdict == "approved"


def test_where_tags_are_trusted_a_tag_approves_and_is_kept(case):
    case.tag(review="approved")
    assert case.standing(trust="open").verdict == "approved"
    assert case.standing(trust="open").reviewer == "somebody (tag in MLflow)"
    assert len(Evidence(case.record, case.name).reviews(_digest(case))) == 1
    assert case.standing().verdict == "waiting", "signed again: what a tag said does not count"


def test_an_approval_holds_where_a_rollout_signs_the_same_again_and_not_for_another_verdict(case):
    case.decide("approved")
    kept = Evidence(case.record, case.name)
    before, evidence = kept.envelope("1"), SignedAdmission(case.record, case.params(), case.settings).bundle("1")
    told = Judgement.model_validate({name: getattr(evidence, name) for name in Judgement.model_fields})
    version, envelope = publish.register_candidate(evidence.run_id, case.params(), case.settings, told)
    kept.keep(version, evidence.model_digest, envelope)
    assert (version, envelope == before) == ("1", False)
    assert case.standing().verdict == "approved"
    other = bundle.seal(evidence.model_copy(update={"reasons": ("another",)}), case.settings)
    kept.keep("1", evidence.model_digest, other)
    assert "the evidence has changed since" in case.standing().reason


def test_a_refused_model_serves_under_no_number_and_for_nobody(case):
    case.decide("refused", comment="mixes up refunds")
    with pytest.raises(Refused, match="ben refused this model: mixes up refunds"):
        case.decide("approved", reviewer="ana")
    assert case.register("k2") == "2"
    assert case.standing("2").verdict == "refused"


def test_an_approval_is_void_once_the_champion_has_moved(case):
    case.decide("approved")
    case.record.compare_and_set(case.record.read(case.name), champion=Revision(version="9", digest="9" * 64))
    found = case.standing()
    assert (found.verdict, "tokka review evaluate 1" in found.reason) == ("waiting", True)
    with pytest.raises(Refused, match="tokka review evaluate 1"):
        case.decide("approved")


def test_the_author_does_not_approve_where_four_eyes_are_asked_for(case):
    with pytest.raises(Refused, match="the author of a run does not approve it"):
        case.decide("approved", reviewer="ana", four_eyes=True)
    assert case.decide("approved", four_eyes=True).reviewer == "ben"


def test_evidence_that_the_record_lost_is_read_from_mlflow_and_forged_evidence_is_refused(case):
    evidence = Evidence(case.record, case.name)
    evidence.keep("1", _digest(case), "")
    assert case.standing().verdict == "waiting"
    path = publish.fetch_evidence(bundle.FILE, "1", case.params(), case.settings)
    path.write_text(path.read_text()[:-20] + "A" * 20)
    with pytest.raises(Refused, match="is not what was signed"):
        case.standing()


@pytest.mark.parametrize(("reviewer", "comment"), [("", "why"), (" ", "why"), ("ana", ""), ("ana", "  ")])
def test_a_refusal_needs_a_name_and_a_reason(reviewer, comment, case):
    with pytest.raises(UsageError):
        case.decide("refused", reviewer=reviewer, comment=comment)
    assert case.standing().verdict == "waiting"


def _digest(case: Case) -> str:
    return SignedAdmission(case.record, case.params(), case.settings).bundle("1").model_digest


def test_a_champion_that_was_deleted_in_mlflow_goes_on_and_the_others_keep_their_aliases(case):
    second = case.register("k2")
    registry, digest = Registry(case.settings, case.name), _digest(case)
    revisions = {number: Revision(version=number, digest=digest) for number in ("1", second)}
    state = case.record.read(case.name)
    case.record.compare_and_set(state, champion=revisions[second], previous=revisions["1"])
    keep_aliases(case.record, case.name, registry)
    registry.delete_alias("previous")
    registry._client.delete_model_version(case.name, second)
    shutil.rmtree(case.settings.home / "models" / digest)

    found = find_champion(case.params(), case.settings)
    assert (found.status, found.version, found.folder.name) == ("present", second, digest)
    assert keep_aliases(case.record, case.name, registry) == ["previous"]
    assert registry.aliases()["previous"] == "1"
    assert lost_versions(case.record.read(case.name), registry) == {"champion": second}
    run_id = SignedAdmission(case.record, case.params(), case.settings).run_of(second)
    found = publish.fetch_run_evidence("reference.parquet", run_id, case.params(), case.settings)
    assert found.read_bytes() == b"PAR1"
