"""What every pod must be: confined, bounded, and without a way to the Kubernetes API that it has no use for."""

from collections.abc import Iterator

from tests.manifests.objects import Object, containers, pods

HOST = ("hostNetwork", "hostPID", "hostIPC")


def non_root(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        whole = pod.spec.get("securityContext", {})
        for name, one in containers(pod):
            own = whole | one.get("securityContext", {})
            if own.get("runAsNonRoot") is not True or own.get("runAsUser", 0) == 0:
                yield f"{name}: must run as a user that is not root (runAsNonRoot: true, runAsUser: 10001)"


def read_only_root(objects: list[Object]) -> Iterator[str]:
    yield from _missing(objects, "readOnlyRootFilesystem", True)


def no_escalation(objects: list[Object]) -> Iterator[str]:
    yield from _missing(objects, "allowPrivilegeEscalation", False)


def no_capabilities(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for name, one in containers(pod):
            found = one.get("securityContext", {}).get("capabilities", {})
            if found.get("drop") != ["ALL"] or found.get("add"):
                yield f"{name}: must drop every capability and add none (capabilities: {{drop: [ALL]}}), has {found}"


def default_seccomp(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for name, one in containers(pod):
            own = pod.spec.get("securityContext", {}) | one.get("securityContext", {})
            if own.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                yield f"{name}: must have seccompProfile: {{type: RuntimeDefault}}"


def nothing_of_the_host(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        yield from (f"{pod.owner}: must not share the node's own: {key}" for key in HOST if pod.spec.get(key))
        for volume in pod.spec.get("volumes", []):
            if "hostPath" in volume:
                yield f"{pod.owner}: must mount nothing of the node: volume {volume['name']} is a hostPath"
        for name, one in containers(pod):
            if one.get("securityContext", {}).get("privileged"):
                yield f"{name}: must not be privileged"
            if any("hostPort" in port for port in one.get("ports", [])):
                yield f"{name}: must take no port of the node (hostPort)"


def bounded(objects: list[Object]) -> Iterator[str]:
    """Requests of both kinds, so that it is placed well; a limit of memory; scratch space with an end."""
    for pod in pods(objects):
        for name, one in containers(pod):
            found = one.get("resources", {})
            wanted = [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")]
            if missing := [".".join(key) for key in wanted if key[1] not in found.get(key[0], {})]:
                yield f"{name}: resources must be set, {', '.join(missing)} are not"
        for volume in pod.spec.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
                yield f"{pod.owner}: volume {volume['name']} must have a sizeLimit"


def no_token(objects: list[Object]) -> Iterator[str]:
    """Neither the pod nor its own account hands out a token for the Kubernetes API."""
    for pod in pods(objects):
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.owner}: must have automountServiceAccountToken: false"
        if pod.spec.get("serviceAccountName", "default") == "default":
            yield f"{pod.owner}: must have a service account of its own"


def probed(objects: list[Object]) -> Iterator[str]:
    """Whoever answers says when it is ready to."""
    for pod in pods(objects):
        for one in pod.spec["containers"]:
            if one.get("ports") and "readinessProbe" not in one:
                yield f"{pod.owner} container {one['name']}: must have a readinessProbe, since it listens"


def tagged(objects: list[Object]) -> Iterator[str]:
    """An image by digest, or by a tag that says which it is."""
    for pod in pods(objects):
        for name, one in containers(pod):
            if "@sha256:" not in one["image"] and _tag(one["image"]) in {"", "latest"}:
                yield f"{name}: image {one['image']} must have a digest, or a tag other than latest"


def by_digest(objects: list[Object]) -> Iterator[str]:
    """Outside of development the very image that was proven."""
    for pod in pods(objects):
        for name, one in containers(pod):
            if "@sha256:" not in one["image"]:
                yield f"{name}: image {one['image']} must be named by its digest here (name@sha256:…)"


def _missing(objects: list[Object], key: str, wanted: bool) -> Iterator[str]:
    for pod in pods(objects):
        for name, one in containers(pod):
            if one.get("securityContext", {}).get(key) is not wanted:
                yield f"{name}: must have {key}: {str(wanted).lower()}"


def _tag(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[2]
