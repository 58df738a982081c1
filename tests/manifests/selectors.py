"""Every selector finds a pod, and every port that it opens is one on which that pod listens."""

from collections.abc import Iterator
from typing import Any

from tests.manifests.objects import Object, Pod, of_kind, pods, title

NAMESPACE = "kubernetes.io/metadata.name"
STEP = {"pipelines.kubeflow.org/v2_component": "true", "app.kubernetes.io/part-of": "tokka"}


def outside(owner: str, namespace: str, labels: dict[str, str], *ports: int) -> Pod:
    """A pod that is not in the manifests."""
    listens = [{"name": "other", "ports": [{"containerPort": port} for port in ports]}]
    return Pod(owner, namespace, labels, {"containers": listens})


# Pods that others make, as they are in Kubernetes and in Kubeflow Pipelines 2.17.
OUTSIDE = [
    outside("cluster DNS", "kube-system", {"k8s-app": "kube-dns"}, 53),
    outside("KFP's API server", "kubeflow", {"app": "ml-pipeline"}, 8887, 8888),
    outside("KFP's metadata", "kubeflow", {"component": "metadata-grpc-server"}, 8080),
    outside("KFP's S3", "kubeflow", {"app": "seaweedfs"}, 8333),
    outside("a step", "kubeflow", STEP),
]


def services(objects: list[Object]) -> Iterator[str]:
    everything = list(pods(objects))
    for one in of_kind(objects, "Service"):
        spec, namespace = one["spec"], one["metadata"]["namespace"]
        found = [pod for pod in everything if pod.namespace == namespace and _has(pod, spec["selector"])]
        if not found:
            yield f"{title(one)}: its selector {spec['selector']} matches no pod"
        for port in spec["ports"]:
            wanted = port.get("targetPort", port["port"])
            yield from (
                f"{title(one)}: sends to port {wanted}, on which {pod.owner} does not listen"
                for pod in found
                if wanted not in ports_of(pod)
            )


def network_policies(objects: list[Object]) -> Iterator[str]:
    everything = [*pods(objects), *OUTSIDE]
    for one in of_kind(objects, "NetworkPolicy"):
        spec, namespace = one["spec"], one["metadata"]["namespace"]
        bound = chosen(everything, {"podSelector": spec["podSelector"]}, namespace)
        if not bound:
            yield f"{title(one)}: is for pods {_labels(spec['podSelector'])} in {namespace}, of which there are none"
        for rule in spec.get("ingress", []):
            yield from _peers(title(one), rule.get("from", []), everything, namespace)
            yield from _listens(title(one), rule, bound)
        for rule in spec.get("egress", []):
            yield from _peers(title(one), rule.get("to", []), everything, namespace)
            for peer in rule.get("to", []):
                yield from _listens(title(one), rule, chosen(everything, peer, namespace))


def _peers(owner: str, peers: list[Object], everything: list[Pod], namespace: str) -> Iterator[str]:
    if not peers:
        yield f"{owner}: must name its peers, since a rule without any allows everybody"
    for peer in peers:
        if "ipBlock" not in peer and not chosen(everything, peer, namespace):
            yield f"{owner}: names pods {peer}, of which there are none"


def _listens(owner: str, rule: Object, peers: list[Pod]) -> Iterator[str]:
    if not rule.get("ports"):
        yield f"{owner}: must name its ports, since a rule without any allows all of them"
    for port in rule.get("ports", []):
        yield from (
            f"{owner}: opens port {port['port']}, on which {pod.owner} does not listen"
            for pod in peers
            if port["port"] not in ports_of(pod)
        )


def chosen(everything: list[Pod], peer: Object, namespace: str) -> list[Pod]:
    """The pods that a peer of a policy in `namespace` means; an ipBlock means none."""
    if "ipBlock" in peer:
        return []
    wanted = _labels(peer["namespaceSelector"]).get(NAMESPACE) if "namespaceSelector" in peer else namespace
    labels = _labels(peer.get("podSelector", {}))
    return [pod for pod in everything if pod.namespace == wanted and _has(pod, labels)]


def _labels(selector: Object) -> dict[str, str]:
    assert set(selector) <= {"matchLabels"}, f"only matchLabels is understood here, not {selector}"
    return selector.get("matchLabels", {})


def _has(pod: Pod, labels: dict[str, str]) -> bool:
    return labels.items() <= pod.labels.items()


def ports_of(pod: Pod) -> set[Any]:
    """The ports of a pod, by number and by name."""
    listed = [port for one in pod.spec["containers"] for port in one.get("ports", [])]
    return {value for port in listed for value in (port["containerPort"], port.get("name")) if value is not None}
