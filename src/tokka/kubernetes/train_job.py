"""Kubeflow Trainer: a TrainJob by its name, made once, waited for, taken away; `standing` and `train_job` are pure."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tokka.errors import TokkaError
from tokka.kubernetes.api import PODS, Api, Conflict, Denied, Kind, NoAnswer, Object
from tokka.kubernetes.failures import of_pod
from tokka.sections import Finetuning

GROUP = "trainer.kubeflow.org"
TRAIN_JOBS = Kind(f"{GROUP}/v1alpha1", "trainjobs")
RUNTIMES = Kind(f"{GROUP}/v1alpha1", "trainingruntimes")
REVIEWS = Kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", is_namespaced=False)
# The runtime, its replicated job, and the label by which JobSet marks the pods.
RUNTIME, NODE, OF_JOB = "tokka", "node", "jobset.sigs.k8s.io/jobset-name"
RUN, MANAGER = "tokka.dev/run", "tokka.dev/finetune"
VERBS = ("create", "get", "delete")
FIRST_PAUSE_S, LONGEST_PAUSE_S, PATIENCE_S = 1.0, 15.0, 300.0
# Kubeflow Pipelines gives the name of the pod; Kubernetes the host's, which is the same up to 63 letters.
POD = ("KFP_POD_NAME", "HOSTNAME")
# With this a node ends that would be refused again: the runtime then ends all of them.
EXIT_REFUSED = 65


class Standing(NamedTuple):
    """How a TrainJob is: begun, done or failed, with what its condition or its controller says."""

    state: str
    words: str = ""


def train_job(name: str, command: Sequence[str], nodes: int, devices: int, pod: Object, run: str) -> Object:
    """The TrainJob of a step: its nodes have the image, the resources and the place of the step's own pod."""
    spec = pod.get("spec", {})
    own: Object = next((one for one in spec.get("containers", ()) if one["name"] == "main"), {})
    trainer = {"numNodes": nodes, "numProcPerNode": devices, "command": [*command]}
    trainer |= {"image": own["image"]} if "image" in own else {}
    trainer |= {"resourcesPerNode": own["resources"]} if own.get("resources") else {}
    kind = {"name": RUNTIME, "kind": "TrainingRuntime", "apiGroup": GROUP}
    wanted: Object = {"runtimeRef": kind, "trainer": trainer}
    if deadline := spec.get("activeDeadlineSeconds"):
        wanted["activeDeadlineSeconds"] = deadline
    if place := _place(spec):
        jobs = [{"name": NODE, "template": {"spec": {"template": {"spec": place}}}}]
        patch = {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}
        wanted["runtimePatches"] = [patch]
    labels = {"app.kubernetes.io/part-of": "tokka"}
    return {
        "apiVersion": TRAIN_JOBS.version,
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": labels, "annotations": {RUN: run}},
        "spec": wanted,
    }


def standing(job: Object) -> Standing:
    """How a TrainJob is, by its conditions."""
    found = {one["type"]: one for one in job.get("status", {}).get("conditions") or () if one["status"] == "True"}
    for kind, state in (("Complete", "done"), ("Failed", "failed")):
        if kind in found:
            return Standing(state, found[kind].get("message") or found[kind].get("reason") or "")
    held = found.get("Suspended", {})
    return Standing("begun", held.get("message", ""))


def check(api: Api, asked: Finetuning, namespace: str) -> str:
    """See that a step here may train on so many nodes; TokkaError in words when it may not."""
    nodes, alone = asked.nodes, f"set finetuning.nodes: 1 and finetuning.devices: {asked.ranks}"
    if GROUP not in api.groups():
        raise TokkaError(
            f"finetuning.nodes is {nodes}, and this cluster has no Kubeflow Trainer ({TRAIN_JOBS.version})",
            f"install it, or {alone}",
        )
    component = f"apply infra/kubernetes/components/training, or {alone}"
    for verb in VERBS:
        right = {"verb": verb, "group": GROUP, "resource": TRAIN_JOBS.plural, "namespace": namespace}
        review = {"apiVersion": REVIEWS.version, "kind": "SelfSubjectAccessReview",
                  "spec": {"resourceAttributes": right}}  # fmt: skip
        if not api.create(REVIEWS, review).get("status", {}).get("allowed"):
            raise TokkaError(f"finetuning.nodes is {nodes}, and this account may not {verb} TrainJobs", component)
    if api.get(RUNTIMES, RUNTIME) is None:
        raise TokkaError(f"finetuning.nodes is {nodes}, and there is no TrainingRuntime {RUNTIME!r}", component)
    return f"{TRAIN_JOBS.version}, {nodes} nodes"


class TrainJobs:
    """TrainJobs of one namespace; `told` gets what there is to say, `pause` waits for so many seconds."""

    def __init__(self, api: Api, told: Callable[[str], None], pause: Callable[[float], None] = time.sleep) -> None:
        self._api, self._told, self._pause = api, told, pause
        self._said = ""

    def own_pod(self) -> Object:
        """The pod of this process; nothing where it has no name."""
        name = next(filter(None, map(os.environ.get, POD)), "")
        return (self._answered(lambda: self._api.get(PODS, name)) if name else None) or {}

    def run(self, wanted: Object, look: Callable[[], None] = lambda: None) -> None:
        """Have a TrainJob of this name do its work: one that is there already, or this one; `look` at each turn.

        TokkaError in the words of the pod that failed first, else in those of the job's condition.
        """
        name, pause = wanted["metadata"]["name"], FIRST_PAUSE_S
        self._begin(wanted)
        while True:
            job = self._answered(lambda: self._api.get(TRAIN_JOBS, name))
            if job is None:
                raise TokkaError(f"TrainJob {name} was deleted before it had ended", "start the run again: it goes on")
            found = standing(job)
            if found.state == "done":
                return
            words = self._failure(name)
            if found.state == "failed":
                told = f"TrainJob {name} has failed: {words or found.words or 'nobody says why'}"
                raise TokkaError(told, f"kubectl describe trainjob {name}; the same run again begins anew")
            self._say(words or found.words or _running(job))
            look()
            self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def remove(self, name: str) -> None:
        """Delete a TrainJob, and its pods with it, if it is there."""
        job = self._answered(lambda: self._api.get(TRAIN_JOBS, name))
        while job is not None and "deletionTimestamp" not in job["metadata"]:
            version = job["metadata"]["resourceVersion"]
            try:
                self._api.delete(TRAIN_JOBS, name, version)
                return
            except (Conflict, NoAnswer):
                self._pause(FIRST_PAUSE_S)
            job = self._answered(lambda: self._api.get(TRAIN_JOBS, name))

    def _begin(self, wanted: Object) -> None:
        """Make the TrainJob, unless one of this name is at work, or has ended for this very run."""
        name, run = wanted["metadata"]["name"], wanted["metadata"]["annotations"][RUN]
        while True:
            job = self._answered(lambda: self._api.get(TRAIN_JOBS, name))
            if job is None:
                try:
                    self._api.create(TRAIN_JOBS, wanted)
                    self._told(f"TrainJob {name} is made")
                    return
                except (Conflict, NoAnswer):  # it may have been made: look
                    self._pause(FIRST_PAUSE_S)
                    continue
            ours = run and job["metadata"].get("annotations", {}).get(RUN) == run
            if "deletionTimestamp" not in job["metadata"]:
                if ours or standing(job).state == "begun":
                    self._told(f"TrainJob {name} is there already")
                    return
                self.remove(name)  # what ended for another run left nothing that could be used
            self._pause(FIRST_PAUSE_S)

    def _failure(self, name: str) -> str:
        """What the pods say that do not run; empty where none has failed, or this account may not look."""
        try:
            pods = self._api.list(PODS, {OF_JOB: name})
        except (Denied, NoAnswer):
            return ""
        pods.sort(key=lambda one: (not _is_refused(one), one["metadata"]["name"]))
        said = [(one["metadata"]["name"], of_pod(one.get("status", {}))) for one in pods]
        return next((f"{pod}: {words}" for pod, words in said if words), "")

    def _say(self, words: str) -> None:
        if words != self._said:
            self._said = words
            self._told(words)

    def _answered(self, ask: Callable[[], Object | None]) -> Object | None:
        """What the API answers; an API that is away is waited for, PATIENCE_S at most."""
        pause, deadline = FIRST_PAUSE_S, time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except NoAnswer:
                if time.monotonic() >= deadline:
                    raise
            self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _place(spec: Mapping[str, object]) -> Object:
    """Where the step's pod may run, without what Kubernetes adds to every pod."""
    given = [one for one in spec.get("tolerations") or () if not one.get("key", "").startswith("node.kubernetes.io/")]  # type: ignore[attr-defined]
    found = {"tolerations": given, "nodeSelector": spec.get("nodeSelector"), "affinity": spec.get("affinity")}
    return {name: value for name, value in found.items() if value}


def _is_refused(pod: Object) -> bool:
    """Whether a pod has ended by itself, and not since another one was gone."""
    containers = pod.get("status", {}).get("containerStatuses") or ()
    ended = [one.get("state", {}).get("terminated") or {} for one in containers]
    return any(one.get("exitCode") == EXIT_REFUSED for one in ended)


def _running(job: Object) -> str:
    counts: Object = next((one for one in job.get("status", {}).get("jobsStatus") or () if one.get("name") == NODE), {})
    return f"TrainJob {job['metadata']['name']}: {counts.get('active', 0)} jobs at work, {counts.get('ready', 0)} ready"
