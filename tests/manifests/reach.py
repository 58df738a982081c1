"""Who reaches whom: the NetworkPolicies carried out over plain objects, as a network plug-in would."""

from collections.abc import Iterator

from tests.manifests.objects import Object, Pod, of_kind
from tests.manifests.selectors import chosen, ports_of


def paths(objects: list[Object], pods: list[Pod]) -> set[tuple[str, str, int]]:
    """Every (from, to, port) between two different pods that no policy forbids."""
    return {
        (source.owner, target.owner, port)
        for source in pods
        for target in pods
        for port in ports_of(target)
        if source is not target and isinstance(port, int) and may(objects, source, target, port)
    }


def may(objects: list[Object], source: Pod, target: Pod, port: int) -> bool:
    """Whether the one may open a connection to the other: what leaves and what arrives are both allowed."""
    leaves = _allowed(objects, "Egress", source, target, port)
    return leaves and _allowed(objects, "Ingress", target, source, port)


def _allowed(objects: list[Object], direction: str, bound: Pod, peer: Pod, port: int) -> bool:
    """A pod that no policy is about may do everything; else what some rule names."""
    binding = [one for one in of_kind(objects, "NetworkPolicy") if _binds(one, direction, bound)]
    return not binding or any(_matches(one, direction, peer, port) for one in binding)


def _binds(policy: Object, direction: str, pod: Pod) -> bool:
    spec, namespace = policy["spec"], policy["metadata"]["namespace"]
    return direction in spec["policyTypes"] and bool(chosen([pod], {"podSelector": spec["podSelector"]}, namespace))


def _matches(policy: Object, direction: str, peer: Pod, port: int) -> bool:
    namespace = policy["metadata"]["namespace"]
    return any(
        port in [one["port"] for one in rule["ports"]]
        and any("ipBlock" in one or chosen([peer], one, namespace) for one in _peers(rule, direction))
        for rule in policy["spec"].get(direction.lower(), [])
    )


def _peers(rule: Object, direction: str) -> Iterator[Object]:
    yield from rule["from" if direction == "Ingress" else "to"]
