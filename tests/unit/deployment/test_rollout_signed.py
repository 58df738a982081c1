"""A rollout with the real, signed admission: what it believes, what it remembers, and what ends it at the promotion."""

import pytest

from tests.fakes.world import ENDPOINT, Model, World, digest_of
from tokka.deployment.record.evidence import Evidence
from tokka.deployment.review.admission import SignedAdmission
from tokka.deployment.review.signatures import sign
from tokka.registry.bundle import Bundle, seal

RUN = "0" * 32


class Signed(World):
    """A world whose versions have signed evidence; version 3 may be the model of version 2 under another number."""

    def sign(self, version, model="", **changes):
        digest = digest_of(model or version)
        bundle = Bundle(run_id=RUN, model=ENDPOINT, version=version, model_digest=digest, verdict="pass", **changes)
        Evidence(self.record, ENDPOINT).keep(version, digest, seal(bundle, self.settings))

    @property
    def admission(self):
        return SignedAdmission(self.record, self.params, self.settings)

    def roll_out(self, version="2", **named):
        return self.rollout(version, admission=self.admission, **named)

    def refuse(self, version):
        review = self.admission.make(self.admission.bundle(version), "refused", "ben", "mixes up refunds")
        Evidence(self.record, ENDPOINT).add_review(version, review.model_digest, sign(review, self.settings))


@pytest.fixture
def world(tmp_path):
    here = Signed(tmp_path)
    here.sign("2", champion_version="1", champion_digest=digest_of("1"))
    return here


def test_what_is_signed_is_promoted(world):
    result = world.roll_out()
    assert result.verdict == "promoted", result.reasons
    assert world.state.champion.digest == digest_of("2")


@pytest.mark.parametrize("tags", [{}, {"tokka.gate": "pass", "tokka.review": "approved", "tokka.reviewer": "eve"}])
def test_without_signed_evidence_nothing_is_changed_whatever_tags_say(world, tags):
    world.registry.of["3"].tags |= tags
    result = world.roll_out("3")
    assert result.verdict == "rolled_back"
    assert "no signed evidence" in result.reasons[0]
    assert world.state.champion.version == "1"


def test_evidence_of_another_version_does_not_do(world):
    evidence = Evidence(world.record, ENDPOINT)
    evidence.keep("3", digest_of("2"), evidence.envelope("2"))
    result = world.roll_out("3")
    assert "the evidence beside version 3 of desk is that of version 2" in result.reasons[0]


def test_a_rolled_back_model_is_not_promoted_under_another_number(tmp_path):
    here = Signed(tmp_path, challenger=Model(accuracy=0.4))
    here.sign("2")
    assert here.roll_out("2").verdict == "rolled_back"
    here.sign("3", model="2")
    again = here.roll_out("3")
    assert again.verdict == "rolled_back"
    assert again.reasons[0] == "this model was rolled back before, as version 2"
    assert here.state.champion.version == "1"
    assert here.state.generation > 0 and here.state.phase == "idle"


def test_the_champion_is_not_replaced_by_itself_under_another_number(world):
    world.sign("3", model="1")
    result = world.roll_out("3")
    assert (result.verdict, "is the model of version 1" in result.reasons[0]) == ("held", True)


def test_a_refusal_during_the_rollout_takes_the_challenger_away_at_its_promotion(world):
    refused = []

    def refuse_in_mid_rollout():
        if world.state.phase == "step" and not refused:
            refused.append(True)
            world.refuse("2")

    world.clock.on_sleep = refuse_in_mid_rollout
    result = world.roll_out()
    assert refused
    assert result.verdict == "rolled_back", result.reasons
    assert "ben refused this model: mixes up refunds" in result.reasons[0]
    assert world.state.champion.version == "1"


def test_a_model_that_is_altered_before_the_promotion_does_not_serve(world):
    def alter():
        world.target.models[digest_of("2")].signed = world.state.phase != "step"

    world.clock.on_sleep = alter
    result = world.roll_out()
    assert result.verdict == "rolled_back", result.reasons
    assert "has no signature" in result.reasons[0]
