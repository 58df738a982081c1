"""A TrainJob over a fake of the API: made once whatever is lost, waited for, and told of in the words of its pods."""

from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from tests.fakes.kubernetes_api import FakeApi, Fault
from tokka.errors import TokkaError
from tokka.kubernetes import train_job
from tokka.kubernetes.api import PODS, Object
from tokka.kubernetes.train_job import RUN, RUNTIME, RUNTIMES, TRAIN_JOBS, TrainJobs, check, standing
from tokka.sections import Finetuning

POD: Object = {
    "metadata": {"name": "step"},
    "spec": {
        "activeDeadlineSeconds": 43200,
        "containers": [
            {"name": "wait", "image": "argo"},
            {"name": "main", "image": "tokka/pipeline@sha256:1", "resources": {"requests": {"cpu": "2"}, "limits": {
                "nvidia.com/gpu": "1"}}},
        ],
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        ],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]}}},
    },
}  # fmt: skip
COMMAND = ("python", "-P", "-m", "tokka.training.node_process", "s3://bucket/archive/training/k")


def wanted(run: str = "run-1", pod: Object | None = None) -> Object:
    return train_job.train_job("tokka-k", COMMAND, 2, 4, POD if pod is None else pod, run)


class Cluster(FakeApi):
    """With what a step needs, and a controller that carries out a script: one entry for each look at the job."""

    def __init__(self, *script: Object) -> None:
        super().__init__(("trainer.kubeflow.org",))
        self.script, self.said, self.paused = list(script), list[str](), list[float]()
        self.objects[RUNTIMES][RUNTIME] = {"metadata": {"name": RUNTIME}}
        self.may = {"create", "get", "delete"}

    def get(self, kind: Any, name: str, namespace: str = "") -> Object | None:
        found = super().get(kind, name, namespace)
        if kind == TRAIN_JOBS and found and self.script:
            self.objects[kind][name]["status"] = self.script.pop(0)
        return super().get(kind, name, namespace) if found else None

    def create(self, kind: Any, body: Object) -> Object:
        if kind == train_job.REVIEWS:
            return {"status": {"allowed": body["spec"]["resourceAttributes"]["verb"] in self.may}}
        return super().create(kind, body)

    @property
    def jobs(self) -> TrainJobs:
        return TrainJobs(self, self.said.append, self.paused.append)


def condition(kind: str, message: str = "") -> Object:
    return {"conditions": [{"type": kind, "status": "True", "message": message}]}


DONE, FAILED, AT_WORK = condition("Complete"), condition("Failed", "jobset failed"), {"jobsStatus": [
    {"name": "node", "active": 1, "ready": 1}]}  # fmt: skip


def made(api: FakeApi) -> int:
    return sum(call == ("create", "trainjobs/tokka-k") for call in api.calls)


@pytest.mark.parametrize("pod", [POD, {}])
def test_the_object_is_what_trainer_knows(pod: Object) -> None:
    found = wanted(pod=pod)
    assert TrainerV1alpha1TrainJob.from_dict(found).to_dict() == found
    trainer = found["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["command"]) == (2, 4, [*COMMAND])


def test_nodes_have_image_resources_and_place_of_the_step() -> None:
    spec = wanted()["spec"]
    assert spec["trainer"]["image"] == "tokka/pipeline@sha256:1"
    assert spec["trainer"]["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": "1"}
    assert spec["activeDeadlineSeconds"] == 43200
    (patch,) = spec["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    place = job["template"]["spec"]["template"]["spec"]
    assert [one["key"] for one in place["tolerations"]] == ["nvidia.com/gpu"] and "affinity" in place
    assert "runtimePatches" not in wanted(pod={"spec": {"containers": []}})["spec"]


def test_it_is_made_once_and_waited_for() -> None:
    api = Cluster({}, AT_WORK, DONE)
    looks: list[int] = []
    api.jobs.run(wanted(), lambda: looks.append(1))
    assert made(api) == 1 and len(looks) == 2
    assert api.paused == sorted(api.paused) and "1 jobs at work" in api.said[-1]


def test_whoever_comes_second_waits_for_the_same() -> None:
    api = Cluster(AT_WORK, DONE)
    api.create(TRAIN_JOBS, wanted("another run"))
    api.jobs.run(wanted())
    assert made(api) == 1 and "is there already" in api.said[0]


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.CONFLICT, Fault.BUSY])
def test_a_lost_answer_makes_no_second_one(fault: Fault) -> None:
    api = Cluster(DONE)
    api.faults["create"], api.faults["get"] = [fault], [None, Fault.BROKEN, Fault.TIMEOUT_AFTER]
    api.jobs.run(wanted())
    assert len(api.objects[TRAIN_JOBS]) == 1


def test_an_api_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_job, "PATIENCE_S", 0.0)
    api = Cluster()
    api.faults["get"] = [Fault.BROKEN] * 3
    with pytest.raises(TokkaError, match="500"):
        api.jobs.run(wanted())


@pytest.mark.parametrize("ended", [DONE, FAILED])
def test_what_ended_for_another_run_is_made_anew(ended: Object) -> None:
    api = Cluster(ended)
    api.create(TRAIN_JOBS, wanted("another run"))
    api.script += [ended, DONE]
    api.jobs.run(wanted("run-2"))
    assert made(api) == 2
    assert api.objects[TRAIN_JOBS]["tokka-k"]["metadata"]["annotations"][RUN] == "run-2"


def test_a_failure_of_this_run_is_not_tried_again() -> None:
    api = Cluster()
    api.create(TRAIN_JOBS, wanted() | {"status": FAILED})
    with pytest.raises(TokkaError, match="jobset failed"):
        api.jobs.run(wanted())
    assert made(api) == 1


def test_a_failure_is_said_in_the_words_of_who_failed_first() -> None:
    api = Cluster(FAILED, FAILED)
    lost, refused = "error: the group of machines broke: Connection closed", "error: the loss is nan\n  → lower it"
    api.pods = [ended_pod("tokka-k-node-0-0", 75, lost), ended_pod("tokka-k-node-0-1", 65, refused)]
    with pytest.raises(TokkaError) as error:
        api.jobs.run(wanted())
    assert "tokka-k-node-0-1: its node says: error: the loss is nan; lower it" in error.value.message
    api.faults["list"] = [Fault.DENIED]
    with pytest.raises(TokkaError, match="jobset failed"):
        api.jobs.run(wanted())


def ended_pod(name: str, code: int, message: str) -> Object:
    labels = {"jobset.sigs.k8s.io/jobset-name": "tokka-k"}
    state = {"terminated": {"exitCode": code, "message": message}}
    return {"metadata": {"name": name, "labels": labels},
            "status": {"containerStatuses": [{"name": "node", "ready": False, "state": state}]}}  # fmt: skip


def test_one_that_somebody_deletes_is_said() -> None:
    api = Cluster(AT_WORK)
    with pytest.raises(TokkaError, match="was deleted before it had ended"):
        api.jobs.run(wanted(), lambda: api.objects[TRAIN_JOBS].clear())


def test_it_is_removed_whoever_changes_it_meanwhile() -> None:
    api = Cluster()
    api.create(TRAIN_JOBS, wanted())
    api.faults["delete"] = [Fault.CONFLICT, Fault.TIMEOUT_AFTER]
    api.jobs.remove("tokka-k")
    api.jobs.remove("tokka-k")
    assert not api.objects[TRAIN_JOBS]


def test_the_own_pod_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Cluster()
    api.objects[PODS]["step"] = POD
    monkeypatch.setenv("KFP_POD_NAME", "step")
    assert api.jobs.own_pod() == POD
    monkeypatch.setenv("KFP_POD_NAME", "other")
    assert api.jobs.own_pod() == {}


def test_preflight_says_what_is_missing() -> None:
    asked = Finetuning(nodes=2, devices=4)
    assert "2 nodes" in check(Cluster(), asked, "kubeflow")
    for spoil, words in (
        (lambda api: api.known_groups.clear(), "no Kubeflow Trainer"),
        (lambda api: api.may.discard("create"), "may not create TrainJobs"),
        (lambda api: api.objects[RUNTIMES].clear(), "no TrainingRuntime 'tokka'"),
    ):
        api = Cluster()
        spoil(api)
        with pytest.raises(TokkaError, match=words) as error:
            check(api, asked, "kubeflow")
        assert "finetuning.devices: 8" in error.value.hint


def test_a_suspended_job_says_so() -> None:
    assert standing({"status": condition("Suspended", "by a person")}) == ("begun", "by a person")
    assert standing({}) == ("begun", "")
