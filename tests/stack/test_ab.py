"""An A/B test on a real stack: split, figures, the daemon's watch, its fail-safe, and the winner."""

import contextlib
import os
import signal
import time

import psutil

from tests.fakes.world import ADMITTED, FakeAdmission, FakeRegistry, VersionTags
from tests.fixtures.world import NAME
from tokka import files
from tokka.deployment import ab, rollout_files
from tokka.deployment.judge import confidence_sequences
from tokka.deployment.reconcile import rollback
from tokka.deployment.rollout import Rollout
from tokka.gateway.api_keys import own_headers
from tokka.gateway.replay import replay
from tokka.request_log import log


def start(world, share):
    registry = FakeRegistry()
    registry.of = {"2": VersionTags(dict(ADMITTED))}
    admission = FakeAdmission(registry)
    admission.digest_of = lambda version: world.revisions[version].digest
    rollout = Rollout(
        version="2", registry=registry, record=world.record, target=world.target, params=world.params,
        settings=world.settings, admission=admission,
        fetch=lambda bundle: world.settings.home / "models" / bundle.model_digest,
    )  # fmt: skip
    state = ab.start(rollout, share)
    assert world.target.observe().share == share
    return state


def watchers(world):
    found = []
    for pid in world.processes():
        # One that ends meanwhile watches nothing.
        with contextlib.suppress(psutil.Error):
            if "tokka.stack.drive" in psutil.Process(pid).cmdline():
                found.append(pid)
    return found


def test_a_test_runs_is_watched_survives_the_daemon_and_ends_with_its_winner(world):
    began = start(world, 0.3)
    # Who asks twice asks the same: the first request of each user is what counts.
    names = [f"{number % 340}" for number in range(400)]
    users = [{"text": f"card {name}", "target": "card", "user": f"user {name}"} for name in names]
    results = replay(users, world.url, headers=own_headers(world.settings.home))
    assert {result.status for result in results} == {200}
    versions = {}
    for row, result in zip(users, results, strict=True):
        versions.setdefault(row["user"], set()).add(result.version)
    assert all(len(seen) == 1 for seen in versions.values())
    assert set.union(*versions.values()) == {"1", "2"}

    def figures():
        return confidence_sequences.measure(ab.read_traffic(began, world.params, world.settings), 0.05)

    world.wait(lambda: figures()["wrong"].requests == 340)
    found = figures()
    truth = {side: [one for one in results[:340] if (one.version == "2") == side] for side in (False, True)}
    for side, rate in ((False, found["wrong"].champion), (True, found["wrong"].challenger)):
        assert rate == sum(one.label != "card" for one in truth[side]) / len(truth[side])
    assert found["errors"].verdict == "undecided" and found["errors"].champion == 0.0
    assert -1 < found["wrong"].low < found["wrong"].high < 1
    world.wait(lambda: watchers(world))
    world.wait(lambda: (rollout_files.read(world.settings.home) or {}).get("phase") == "ab")
    beat = world.record.last_heartbeat(NAME)
    world.wait(lambda: world.record.last_heartbeat(NAME) > beat)
    # A killed watch is started again, and a killed daemon's successor goes on with the test.
    os.kill(watchers(world)[0], signal.SIGKILL)
    os.kill(world.info().pid, signal.SIGKILL)
    world.wait(lambda: not world.processes())
    world.up()
    world.wait(lambda: watchers(world))
    assert world.record.read(NAME).phase == "ab"
    ended = ab.stop("2", world.record, world.params, world.settings)
    world.wait(lambda: world.ask().json()["model_version"] == "2")
    world.wait(lambda: not watchers(world))
    assert ended.champion.version == "2"
    assert any("wrong: " in reason for reason in world.record.decisions(NAME, limit=1)[0]["reasons"])
    rollback(world.record, NAME, "back to the first")
    world.change(previous=None)


def test_a_challenger_that_fails_is_taken_away_without_asking(world):
    state = start(world, 0.5)
    writer = log.Writer(world.settings.home / "requests", "test")
    facts = {"kind": "request", "route": "predict", "share": 0.5, "latency_ms": 5.0, "replayed": False, "retries": 0}
    writer.append(
        [
            {**facts, "prediction_id": files.digest_json(number), "time": time.time(), "canary": bool(number % 2),
             "stand_in": False, "version": "2" if number % 2 else "1", "status": 503 if number % 2 else 200}
            for number in range(60)
        ]
    )  # fmt: skip
    writer.close()
    world.wait(lambda: world.record.read(NAME).challenger is None)
    (decision,) = world.record.decisions(NAME, rollout=state.rollout, limit=1)
    assert decision["action"] == "roll_back" and "fails more often" in decision["reasons"][0]
    world.wait(lambda: world.target.observe().challenger is None)
    assert world.ask().json()["model_version"] == "1"
