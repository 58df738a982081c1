"""A rollout on KServe whose API errs, or is changed by hand; and a reconciler that is killed and followed by another.

The laptop's own crash points run over the same fake in test_rollout_crashes.py.
"""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cluster import ClusterTarget
from tests.fakes.kubernetes_api import Fault
from tests.fakes.world import ENDPOINT, Killed, Model, World, digest_of, truth
from tests.faults.test_rollout_crashes import SHORT, assert_one_champion
from tokka import objects
from tokka.deployment.kserve.endpoint import UNWANTED, Endpoint
from tokka.deployment.kserve.inference_service import SCALING
from tokka.deployment.reconcile import rollback
from tokka.deployment.record.record import Record
from tokka.deployment.record.wishes import Wishes
from tokka.deployment.remote import PLAN
from tokka.errors import TokkaError
from tokka.kubernetes.api import EVENTS, INFERENCE_SERVICES, Invalid
from tokka.request_log import archive, segments
from tokka.request_log.framing import frame
from tokka.serving.options import WorkerOptions, in_pod

# Writes to the API in the rollout of a good version: it comes in, two steps, the promotion, the old one stays for the
# watch and goes after it (the last two).
API_WRITES = 6
FAULTS = [Fault.CONFLICT, Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.BUSY, Fault.BROKEN]


def make(folder: Path, challenger: Model | None = None, **canary: Any) -> World:
    return World(folder, challenger=challenger or Model(), canary={**SHORT, **canary}, serves=ClusterTarget)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(API_WRITES))
def test_a_write_that_goes_wrong_is_made_up_for(tmp_path, at, fault):
    here = make(tmp_path)
    here.target.api.faults["patch"] = [*[None] * at, fault]
    assert here.rollout().verdict == "promoted"
    assert here.target.shows(here.state)
    assert here.target.api.faults["patch"] == [], "the fault happened"
    assert_one_champion(here.record, 2)


def test_an_api_that_errs_half_of_the_time_delays_and_loses_nothing(tmp_path):
    here = make(tmp_path)
    for verb in ("get", "list", "patch"):
        here.target.api.faults[verb] = [fault for one in FAULTS for fault in (one, None)] * 4
    assert here.rollout().verdict == "promoted"
    assert here.target.shows(here.state)


class Replicas:
    """Replicas of the reconciler, one after the other, on one record and one cluster."""

    def __init__(self, here: World) -> None:
        self.here, self.wishes = here, Wishes(here.record)
        plan = here.params.model_dump(mode="json", include=set(PLAN))
        self.wishes.ask(ENDPOINT, "2", "run", plan)

    def start(self, record: Record | None = None) -> Endpoint:
        here = self.here
        here.target.restart()
        replica = Endpoint(
            ENDPOINT, record or here.record, here.params, here.settings, here.target.api, here.target.predictors,
            lambda params: here.registry, here.clock,
        )  # fmt: skip
        made = replica._rollout
        # Traffic, log and models are the world's.
        replica._rollout = lambda version, params: here.rollout_of(
            version, record=record or here.record, params=params, target=SeenThrough(made(version, params).target, here)
        )
        return replica

    def turn(self, replica: Endpoint, times: int = 30) -> None:
        for _ in range(times):
            self.here.target.move_on()
            replica.turn()
            self.here.clock.now += 2.0


class SeenThrough:
    """The reconciler's target, with the fake's controller and counters moved on before each look."""

    def __init__(self, inner: Any, here: World) -> None:
        self._inner, self._here = inner, here
        self.infer = inner.infer

    def apply(self, state: Any) -> None:
        self._here.target.api.guard = self._here.target.guard
        self._inner.apply(state)

    def observe(self) -> Any:
        self._here.target.move_on()
        return self._inner.observe()


RECONCILER = {"good": (Model(), 36), "worse": (Model(accuracy=0.5), 10), "failing": (Model(live_errors=0.6), 21)}


@pytest.mark.parametrize(
    ("name", "at", "after"),
    [(name, at, after) for name, (_, writes) in RECONCILER.items() for at in range(0, writes, 2) for after in (0, 1)],
)
def test_a_reconciler_that_is_killed_is_followed_by_one_that_comes_to_the_same(tmp_path, name, at, after):
    here = make(tmp_path, RECONCILER[name][0])
    replicas = Replicas(here)
    with contextlib.suppress(Killed):
        replicas.turn(replicas.start(here.dying(at, bool(after))))
    between = here.state
    assert between.champion is not None
    replicas.turn(replicas.start(here.healed()))
    state = here.state
    good = name == "good"
    assert (state.phase, state.champion.version, state.challenger) == ("idle", "2" if good else "1", None)
    assert here.target.shows(state)
    assert here.registry.of["2"].tags["tokka.canary"] == ("promoted" if good else "rolled_back")
    observed = replicas.wishes.observed(ENDPOINT, 60.0)
    assert observed.champion == state.champion.digest and observed.champion in observed.ready
    assert_one_champion(here.record, 2 if good else 1)


def test_each_phase_is_an_event_with_the_judges_sentence(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)
    replicas.turn(replicas.start())
    events = here.target.api.objects[EVENTS].values()
    told = [(one["reason"], one["message"]) for one in events]
    assert [reason for reason, _ in told if reason != "RolloutWaits"] == [
        "RolloutStep", "RolloutStep", "RolloutStep", "Promoted", "RolloutFinished",
    ]  # fmt: skip
    assert any("not worse by 0.1" in message for _, message in told)
    assert all(one["involvedObject"]["name"] == ENDPOINT for one in events)


def test_what_somebody_changes_by_hand_is_changed_back_and_told(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)
    replica = replicas.start()
    replicas.turn(replica)
    served = here.state
    here.target.api.edit(INFERENCE_SERVICES, ENDPOINT, {"spec": {"predictor": {"minReplicas": 0}}})
    replicas.turn(replica, 3)
    wrong = here.target.api.objects[INFERENCE_SERVICES][ENDPOINT]
    assert wrong["spec"]["predictor"]["minReplicas"] == here.params.serving.workers
    healed = [one for one in here.target.api.objects[EVENTS].values() if one["reason"] == "Healed"]
    assert len(healed) == 1 and "minReplicas" in healed[0]["message"] and healed[0]["type"] == "Warning"
    assert here.state == served


def test_a_foreign_canary_loses_its_traffic_drains_and_goes(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)
    replica = replicas.start()
    replicas.turn(replica)
    service = here.target.api.objects[INFERENCE_SERVICES][ENDPOINT]
    model = {**service["spec"]["predictor"]["model"], "storageUri": f"tokka://{ENDPOINT}/3/{digest_of('3')}"}
    mine = {name: value for name, value in service["spec"]["predictor"].items() if name not in SCALING}
    foreign = {"predictor": {**mine, "name": "mine", "model": model}, "trafficPercent": 30}
    here.target.api.edit(INFERENCE_SERVICES, ENDPOINT, {"spec": {"canary": [foreign]}})
    replicas.turn(replica, 1)
    assert list(here.target.kserve.weights().values()) == [100, 0], "no traffic at once, but its pods stay"
    replicas.turn(replica, 20)
    assert len(here.target.kserve.weights()) == 1 and here.target.kserve.lost == []


def test_an_inference_service_that_is_deleted_is_made_again(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)
    replica = replicas.start()
    replicas.turn(replica)
    del here.target.api.objects[INFERENCE_SERVICES][ENDPOINT]
    replicas.turn(replica, 2)
    assert here.target.shows(here.state)


@pytest.mark.parametrize("phase", ["shadow", "step", "watch"])
def test_a_rollback_by_hand_is_carried_out(tmp_path, phase):
    here = make(tmp_path, watch_s=30)
    replicas = Replicas(here)

    def interrupt() -> None:
        if here.state.phase == phase:
            here.clock.on_sleep = lambda: None
            rollback(here.record, ENDPOINT, "complaints")

    here.clock.on_sleep = interrupt
    replicas.turn(replicas.start())
    assert here.state.champion.version == "1" and here.state.phase == "idle"
    assert here.target.shows(here.state)


def test_a_challenger_that_never_gets_ready_has_no_traffic_and_is_rolled_back(tmp_path):
    here = make(tmp_path, Model(ready=False))
    replicas = Replicas(here)
    replicas.turn(replicas.start())
    assert here.state.champion.version == "1"
    assert "not ready" in here.record.decisions(ENDPOINT, version="2", limit=1)[0]["reasons"][-1]
    assert here.target.shows(here.state)


def test_why_a_challenger_does_not_start_is_in_record_events_and_what_the_pipeline_is_told(tmp_path):
    here = make(tmp_path, Model(ready=False))
    here.target.kserve.last_words[digest_of("2")] = '{"level": "ERROR", "message": "the model is not signed"}'
    replicas = Replicas(here)
    replicas.turn(replicas.start())
    said = here.record.decisions(ENDPOINT, version="2")
    assert [one["topic"] for one in said if one["action"] != "wait"] == ["held"]
    assert "the model is not signed" in said[0]["reasons"][-1]
    assert any(one["topic"] == "cannot start" for one in said), "while it waits as well"
    events = [one["message"] for one in here.target.api.objects[EVENTS].values()]
    assert any("the model is not signed" in message for message in events)
    assert "the model is not signed" in here.state.reason


def test_a_first_version_that_the_cluster_refuses_says_why(tmp_path):
    here = World(tmp_path, first=True, canary=SHORT, serves=ClusterTarget)

    def refuse(*_: Any) -> None:
        raise Invalid("no runtime supports tokka", "apply the component serving")

    here.target.api.admit = refuse
    replicas = Replicas(here)
    with contextlib.suppress(TokkaError):
        replicas.turn(replicas.start())
    said = here.record.decisions(ENDPOINT, version="2")
    assert said[-1]["topic"] == "cannot start" or said[0]["topic"] == "cannot start"
    assert any("no runtime supports tokka" in one["reasons"][-1] for one in said)


@pytest.mark.parametrize("phase", ["warm_up", "shadow", "step", "watch"])
def test_what_is_wanted_no_more_in_mid_rollout_is_taken_away_but_a_promoted_version_stays(tmp_path, phase):
    here = make(tmp_path, watch_s=30)
    replicas = Replicas(here)

    def vanish() -> None:
        if here.state.phase == phase:
            here.clock.on_sleep = lambda: None
            replicas.wishes.withdraw(replicas.wishes.find(ENDPOINT))

    here.clock.on_sleep = vanish
    replicas.turn(replicas.start())
    assert (here.state.phase, here.state.challenger) == ("idle", None)
    assert here.state.champion.version == ("2" if phase == "watch" else "1")
    assert here.target.shows(here.state)
    if phase != "watch":
        assert here.record.decisions(ENDPOINT, version="2", limit=1)[0]["reasons"] == [UNWANTED]


def test_a_version_that_is_asked_for_again_by_another_plan_goes_on_by_that(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)
    plan = here.params.model_dump(mode="json", include=set(PLAN))
    plan["canary"]["steps"] = [0.3]

    def ask() -> None:
        if here.state.phase == "shadow":
            here.clock.on_sleep = lambda: None
            replicas.wishes.ask(ENDPOINT, "2", "another run", plan)

    here.clock.on_sleep = ask
    replicas.turn(replicas.start())
    assert here.state.champion.version == "2" and here.target.shows(here.state)
    assert {state["share"] for state in here.record.history(ENDPOINT)} == {0.0, 0.3}
    assert replicas.wishes.find(ENDPOINT).taken


def test_a_plan_that_cannot_be_read_is_refused_and_what_serves_is_kept(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)
    replicas.wishes.ask(ENDPOINT, "2", "run", {"canary": {"stepz": [0.5]}})
    replicas.turn(replicas.start(), 2)
    assert here.target.shows(here.state) and here.state.champion.version == "1"
    assert "stepz" in here.record.decisions(ENDPOINT, version="2")[0]["reasons"][0]


def test_pods_are_told_of_serving_as_a_laptops_workers_and_anew_when_that_changes(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)
    plan = here.params.model_dump(mode="json", include=set(PLAN))
    plan |= {
        "serving": {**plan["serving"], "threshold": 0.6},
        "monitoring": {**plan["monitoring"], "store_text": False},
    }
    replicas.wishes.ask(ENDPOINT, "2", "run", plan)
    replica = replicas.start()
    replicas.turn(replica)
    assert here.state.champion.version == "2" and here.target.kserve.lost == []
    predictor = here.target.api.objects[INFERENCE_SERVICES][ENDPOINT]["spec"]["predictor"]
    told = in_pod(WorkerOptions(model_dir=tmp_path), {one["name"]: one["value"] for one in predictor["model"]["env"]})
    assert (told.threshold, told.store_text, told.version) == (0.6, False, "2")
    healed = [one for one in here.target.api.objects[EVENTS].values() if one["reason"] == "Healed"]
    assert healed == []
    here.target.api.calls.clear()
    replicas.turn(replica, 3)
    assert not {verb for verb, _ in here.target.api.calls} & {"patch", "create"}, "nothing is left to write"


def test_a_share_that_kserve_cannot_split_at_is_refused_before_anything_is_changed(tmp_path):
    here = make(tmp_path, steps=[0.125])
    replicas = Replicas(here)
    before = here.state
    replicas.turn(replicas.start(), 2)
    assert here.state == before
    reason = here.record.decisions(ENDPOINT, version="2")[0]["reasons"][0]
    assert "12.50%" in reason and "canary.steps" in reason


def test_a_newer_version_that_is_wanted_meanwhile_takes_over(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)

    def ask() -> None:
        if here.state.phase == "step":
            here.clock.on_sleep = lambda: None
            replicas.wishes.ask(ENDPOINT, "3", "another run", here.params.model_dump(mode="json", include=set(PLAN)))

    here.clock.on_sleep = ask
    replicas.turn(replicas.start())
    assert here.state.champion.version == "3" and here.target.shows(here.state)
    said = here.record.decisions(ENDPOINT, version="2", limit=1)[0]
    assert (said["action"], said["reasons"]) == ("roll_back", ["version 3 is wanted in its place"])


def test_an_older_version_waits_for_the_newer_one_or_takes_its_place_when_that_was_killed(tmp_path):
    here = make(tmp_path)
    replicas = Replicas(here)
    with contextlib.suppress(Killed):
        replicas.turn(replicas.start(here.dying(12, after=True)))
    assert here.state.challenger.version == "2"
    replicas.wishes.ask(ENDPOINT, "1", "another run", here.params.model_dump(mode="json", include=set(PLAN)))
    replicas.turn(replicas.start(here.healed()))
    assert (here.state.phase, here.state.champion.version, here.state.challenger) == ("idle", "1", None)
    assert here.target.shows(here.state)


class Archived:
    """What the champion's pods have logged in an archive in S3, and replicas whose rollouts read it as in a cluster."""

    def __init__(self, here: World, bucket: str) -> None:
        self.here, self.replicas, pod = here, Replicas(here), {"in_pod": True, "archive": bucket}
        here.settings = here.settings.model_copy(update=pod)
        # No held-out rows: what is not logged cannot be compared on.
        here.registry.rows = []

    def log(self, bucket: str, rows: int, labelled: bool) -> None:
        """As many predictions of the last minutes, with the truth about each or none."""
        now, frames = self.here.clock.time(), []
        for number in range(rows):
            facts = {"prediction_id": f"p{number}", "time": now - rows + number}
            frames.append({"kind": "prediction", **facts, "version": "1", "text": f"logged {number}", "label": "login"})
            if labelled:
                frames.append({"kind": "feedback", **facts, "label": truth(f"logged {number}")})
        day = segments.day_of(now)
        address = archive.of_endpoint(self.here.settings, ENDPOINT, "1")
        objects.put(b"".join(map(frame, frames)), f"{address}/{day}-pod-1-1{archive.OPEN}")

    def turn(self) -> list[dict[str, Any]]:
        """Roll out; the decisions on the shadow, oldest first."""
        here, replica = self.here, self.replicas.start()
        made = Endpoint._rollout

        def rollout(version: str, params: Any) -> Any:
            found = made(replica, version, params)

            def open_log(since: float) -> Any:
                readers = found.open_log(since), here.target.reader(since)
                return lambda: [record for read in readers for record in read()]

            target = SeenThrough(found.target, here)
            return here.rollout_of(version, params=params, target=target, open_log=open_log)

        replica._rollout = rollout
        self.replicas.turn(replica)
        found = here.record.decisions(ENDPOINT, version="2", limit=1000)
        return [one for one in found[::-1] if one["phase"] == "shadow"]


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.9, "go_on"), (0.5, "roll_back")])
def test_the_shadow_asks_with_what_pods_have_logged_and_judges_by_the_labels_that_came(
    tmp_path, bucket, accuracy, verdict
):
    here = make(tmp_path, Model(accuracy=accuracy))
    archived = Archived(here, bucket)
    archived.log(bucket, 280, labelled=True)
    said = archived.turn()
    assert (said[-1]["action"], said[-1]["topic"]) == (verdict, "quality"), said[-1]
    assert "(0 replayed)" in " ".join(said[-1]["reasons"])


def test_without_a_log_and_held_out_rows_nothing_is_promoted(tmp_path, bucket):
    here = make(tmp_path)
    said = Archived(here, bucket).turn()
    assert said[-1]["action"] == "roll_back" and here.state.champion.version == "1"


def test_an_archive_that_is_away_leaves_held_out_rows(tmp_path, bucket, monkeypatch):
    here = make(tmp_path)
    rows, archived = here.registry.rows, Archived(here, bucket)
    here.registry.rows = rows

    def away(*_: Any, **__: Any) -> Any:
        raise TokkaError("S3 does not answer")

    monkeypatch.setattr(objects, "listing", away)
    assert archived.turn()[-1]["action"] == "go_on" and here.state.champion.version == "2"
