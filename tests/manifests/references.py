"""Every name that an object calls another by leads somewhere."""

from collections.abc import Iterator
from typing import NamedTuple

from tests.manifests.objects import Object, Pod, containers, of_kind, pods, title

# Made by a person or an operator, as docs/kubeflow.md says: kind, namespace, name -> keys.
PROVIDED: dict[tuple[str, str, str], set[str]] = {
    ("Secret", "tokka", "tokka-mlflow"): {"MLFLOW_BACKEND_STORE_URI"},
    ("Secret", "tokka", "tokka-s3"): {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    ("Secret", "kubeflow", "tokka-s3"): {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    ("Secret", "kubeflow", "tokka-database"): {"TOKKA_RECORD_URL"},
    ("Secret", "kubeflow", "tokka-signing"): {"signing.key"},
    ("ConfigMap", "kubeflow", "tokka-verify"): {"signing.pub"},
}


class Reference(NamedTuple):
    """Who names what; an empty key means the whole object."""

    owner: str
    kind: str
    namespace: str
    name: str
    key: str = ""


def references(objects: list[Object]) -> Iterator[str]:
    known = keys(objects)
    for one in [*_of_pods(objects), *_of_bindings(objects)]:
        target = (one.kind, one.namespace, one.name)
        if target not in known:
            yield f"{one.owner}: names {one.kind} {one.namespace}/{one.name}, which is nowhere"
        elif one.key and one.key not in known[target]:
            yield f"{one.owner}: {one.kind} {one.namespace}/{one.name} has no key {one.key}"


def keys(objects: list[Object]) -> dict[tuple[str, str, str], set[str]]:
    """Every object that can be named, and the keys that it holds."""
    found = {
        (one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]): {
            *one.get("data", {}),
            *one.get("stringData", {}),
        }
        for one in objects
        if "namespace" in one["metadata"]
    }
    return PROVIDED | found


def of_steps(tree: Object) -> Iterator[tuple[str, Reference]]:
    """What pipeline.yaml gives the steps by name, each with the part of the file that names it."""
    parts = {"every_step": tree["every_step"], **tree.get("steps", {})}
    for profile in tree.get("profiles", {}).values():
        parts |= {f"{name} of a profile": one for name, one in profile.items()}
    for part, one in parts.items():
        for source in [*one.get("environment", []), *one.get("volumes", [])]:
            kind, name = ("Secret", source["secret"]) if "secret" in source else ("ConfigMap", source["config_map"])
            for key in source.get("keys", [""]):
                yield part, Reference(f"pipeline.yaml, {part}", kind, "kubeflow", name, key)


def _of_pods(objects: list[Object]) -> Iterator[Reference]:
    for pod in pods(objects):
        if account := pod.spec.get("serviceAccountName"):
            yield Reference(pod.owner, "ServiceAccount", pod.namespace, account)
        yield from _of_volumes(pod)
        for name, one in containers(pod):
            for source in one.get("envFrom", []):
                for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if field in source:
                        yield Reference(name, kind, pod.namespace, source[field]["name"])
            for pair in one.get("env", []):
                for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if found := pair.get("valueFrom", {}).get(field):
                        yield Reference(name, kind, pod.namespace, found["name"], found["key"])


def _of_volumes(pod: Pod) -> Iterator[Reference]:
    for volume in pod.spec.get("volumes", []):
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                yield Reference(pod.owner, "ConfigMap", pod.namespace, source["configMap"]["name"])
            if found := source.get("secret"):
                yield Reference(pod.owner, "Secret", pod.namespace, found.get("secretName") or found["name"])


def _of_bindings(objects: list[Object]) -> Iterator[Reference]:
    for one in of_kind(objects, "RoleBinding"):
        yield Reference(title(one), one["roleRef"]["kind"], one["metadata"]["namespace"], one["roleRef"]["name"])
        for subject in one["subjects"]:
            yield Reference(title(one), subject["kind"], subject["namespace"], subject["name"])
