"""Rollouts on a real stack: gateway, workers, request log and record are real; only the registry is a fake.

The models are untrained, so "right" is by decree what version 2 says.
"""

from typing import Any

import pytest

from tests.fakes.world import ADMITTED, FakeAdmission, FakeRegistry, VersionTags
from tests.fixtures.visitors import Visitors
from tests.fixtures.world import NAME
from tokka.deployment.loop import run_rollout
from tokka.deployment.reconcile import rollback
from tokka.deployment.rollout import Rollout, RolloutResult, through_gateway

CANARY = {
    "shadow_rows": 60, "steps": (0.2, 0.5), "step_requests": 60, "quality_margin": 0.1, "watch_s": 0.5,
    "warm_up_s": 300.0, "maximum_wait_s": 300.0, "slow_ms": 5000.0,
    "error_margin": 0.1, "slow_margin": 0.2,
}  # fmt: skip
WORDS = ("card", "order", "password", "printer", "refund", "parcel", "login", "invoice", "screen", "delivery")


def texts() -> list[str]:
    return [f"my {one} and the {other} number {number}" for number in range(3) for one in WORDS for other in WORDS]


@pytest.fixture(scope="module")
def world(make_world):
    """A stack of its own: a shadow judges by what was asked before as well, and here nobody has asked anything."""
    made = make_world()
    made.install("1")
    made.up()
    return made


@pytest.fixture(scope="module")
def registry(world) -> FakeRegistry:
    """Version 2's own answers are the truth of the test rows."""
    world.change(challenger=world.revisions["2"], phase="warm_up")
    world.wait(lambda: world.workers("2"))
    answers = world.target.infer(world.revisions["2"].digest, [{"text": text} for text in texts()])
    world.retire()
    rows = [{"text": text, "target": answer.label} for text, answer in zip(texts(), answers, strict=True)]
    fake = FakeRegistry(rows)
    fake.of = {version: VersionTags(dict(ADMITTED)) for version in ("1", "2", "3")}
    return fake


def roll_out(world: Any, registry: FakeRegistry, version: str) -> RolloutResult:
    params = world.params.model_copy(update={"canary": world.params.canary.model_copy(update=CANARY)})

    admission = FakeAdmission(registry)
    admission.digest_of = lambda name: world.revisions[name].digest
    rollout = Rollout(
        version=version, registry=registry, record=world.record, target=world.target, params=params,
        settings=world.settings, traffic=through_gateway(world.settings), admission=admission,
        fetch=lambda bundle: world.settings.home / "models" / bundle.model_digest,
    )  # fmt: skip
    return run_rollout(rollout)


def test_a_better_version_is_promoted_a_worse_one_comes_back_and_nobody_notices(world, registry):
    with Visitors(world.url) as visitors:
        better = roll_out(world, registry, "2")
        assert better.verdict == "promoted", better.reasons
        assert 0.3 < better.share_seen < 0.7
        assert world.ask().json()["model_version"] == "2"
        worse = roll_out(world, registry, "3")
        assert worse.verdict == "rolled_back", worse.reasons
        assert "proven worse" in worse.reasons[0]
        world.wait(lambda: len(visitors.answers) > 20)
    assert visitors.failed == []
    assert registry.alias == {"champion": "2", "previous": "1"}
    state = rollback(world.record, NAME, "by hand")
    world.wait(lambda: world.ask().json()["model_version"] == "1")
    assert state.champion.version == "1"
