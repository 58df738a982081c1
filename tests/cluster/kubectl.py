"""The cluster that KUBECONFIG names, asked through kubectl as a person would."""

import json
import subprocess
from typing import Any, NamedTuple

from tests.manifests.objects import Object, kubectl

# Images may have to be unpacked, and a small machine has other things to do.
PATIENCE = "--timeout=300s"


class Refused(Exception):
    """What the API server said when it refused."""


class Right(NamedTuple):
    """What somebody may do; `resource` as plural[/part][.group], an empty name for any."""

    verb: str
    resource: str
    name: str = ""


class Cluster:
    """kubectl with its answers as data; Refused with the server's words when it says no."""

    def run(self, *words: str, given: object = None) -> str:
        text = None if given is None else json.dumps(given)
        done = subprocess.run([kubectl(), *words], input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(done.stderr.strip() or done.stdout.strip())
        return done.stdout + (done.stderr if "apply" in words else "")

    def apply(self, objects: list[Object], *words: str) -> str:
        """Apply them all at once; what it prints, the server's warnings included."""
        return self.run("apply", "-f", "-", *words, given={"apiVersion": "v1", "kind": "List", "items": objects})

    def get(self, namespace: str, kind: str, *words: str) -> list[Object]:
        found: list[Object] = json.loads(self.run("get", kind, "-n", namespace, "-o", "json", *words))["items"]
        return found

    def make_namespace(self, name: str, level: str) -> None:
        labels = {"pod-security.kubernetes.io/enforce": level}
        meta = {"name": name, "labels": labels}
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": meta}])
        # Without its own account a namespace takes no pod.
        self.run("wait", "--for=create", "serviceaccount/default", "-n", name, PATIENCE)

    def wait_until_ready(self, namespace: str) -> None:
        """Until all that is to run does; Refused, with what the pods say, when it does not come to that."""
        for one in self.get(namespace, "deployments,statefulsets"):
            try:
                name = f"{one['kind'].lower()}/{one['metadata']['name']}"
                self.run("rollout", "status", name, "-n", namespace, PATIENCE)
            except Refused as error:
                raise Refused(f"{error}\n{self.explain(namespace)}") from None

    def explain(self, namespace: str) -> str:
        """The last events and words of the pods, for a person."""
        events = self.run("get", "events", "-n", namespace, "--sort-by=.lastTimestamp")
        pods = [one["metadata"]["name"] for one in self.get(namespace, "pods")]
        return "\n".join([events[-4000:], *(self.words_of(namespace, pod) for pod in pods)])

    def words_of(self, namespace: str, pod: str) -> str:
        try:
            return self.run("logs", pod, "-n", namespace, "--all-containers", "--tail=40")
        except Refused as error:
            return str(error)

    def finish(self, namespace: str, pod: Object) -> tuple[int, str]:
        """Run a pod of one container to its end: its exit code, and what it wrote."""
        name, ended = pod["metadata"]["name"], "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"
        self.apply([pod])
        try:
            self.run("wait", f"--for={ended}", f"pod/{name}", "-n", namespace, PATIENCE)
        except Refused as error:
            raise Refused(f"{error}\n{self.explain(namespace)}") from None
        state: Any = json.loads(self.run("get", "pod", name, "-n", namespace, "-o", "json"))["status"]
        return state["containerStatuses"][0]["state"]["terminated"]["exitCode"], self.words_of(namespace, name)

    def allowed(self, account: str, namespace: str, asked: list[Right]) -> list[Right]:
        """Those of `asked` that a service account ("namespace:name") has: a SubjectAccessReview for each."""
        reviews = [_review(f"system:serviceaccount:{account}", namespace, right) for right in asked]
        given = {"apiVersion": "v1", "kind": "List", "items": reviews}
        answers = self.run("create", "-f", "-", "-o", r'jsonpath={.status.allowed}{"\n"}', given=given).split()
        return [right for right, answer in zip(asked, answers, strict=True) if answer == "true"]


def _review(user: str, namespace: str, right: Right) -> Object:
    kind, _, group = right.resource.partition(".")
    kind, _, part = kind.partition("/")
    asked = {"namespace": namespace, "verb": right.verb, "group": group, "resource": kind, "subresource": part}
    spec = {"user": user, "resourceAttributes": asked | {"name": right.name}}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
