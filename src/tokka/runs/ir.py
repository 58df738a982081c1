"""What a compiled pipeline says of itself, and where Argo runs its steps. Pure functions.

KFP's API tells of Argo's nodes by display names, which repeat, and of a node's children by ids. An id is the workflow's
name and a hash of the node's name, which is the path to it, with `(0)` after each part that Argo may try again.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tokka.files import JsonObject, Tree


class Step(NamedTuple):
    """One task that runs a container: its name for people, its key in the graph, its path, its pods' template."""

    title: str
    key: str
    node: str
    template: str


def read(path: Path) -> JsonObject:
    """A compiled file as KFP's API shows it, {"pipeline_spec", "platform_spec"}."""
    import yaml

    spec, platform, *_ = [*yaml.safe_load_all(path.read_text(encoding="utf-8")), {}]
    return {"pipeline_spec": spec, "platform_spec": platform}


def parts(document: Tree) -> tuple[Tree, Tree]:
    """Pipeline and platform spec; KFP shows a pipeline without the latter as its spec alone."""
    return document.get("pipeline_spec", document), document.get("platform_spec") or {}


def name(document: Tree) -> str:
    """The pipeline's own name."""
    return str(parts(document)[0].get("pipelineInfo", {}).get("name", ""))


def parameters(document: Tree) -> dict[str, JsonObject]:
    """The declared parameters of the form, by name."""
    inputs = parts(document)[0].get("root", {}).get("inputDefinitions", {})
    return dict(inputs.get("parameters", {}))


def steps(document: Tree) -> list[Step]:
    """Every task that runs a container, nested pipelines and conditions included."""
    spec, platform = parts(document)
    kubernetes = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    return list(_walk(spec, kubernetes, spec.get("root", {}), "root"))


def _walk(spec: Tree, kubernetes: Tree, component: Tree, node: str) -> Iterator[Step]:
    for key, task in component.get("dag", {}).get("tasks", {}).items():
        inner = spec["components"][task["componentRef"]["name"]]
        if "dag" in inner:
            yield from _walk(spec, kubernetes, inner, f"{node}.{key}")
        else:
            metadata = kubernetes.get(inner.get("executorLabel"), {}).get("podMetadata")
            title = str(task.get("taskInfo", {}).get("name") or key).replace("-", "_")
            yield Step(title, key, f"{node}.{key}", _template(task, metadata))


def _template(task: Tree, metadata: Tree | None) -> str:
    """The name that KFP's compiler gives the template of a task's pods, which is a part of the pods' names."""
    template = "retry-system-container-impl" if "retryPolicy" in task else "system-container-impl"
    if metadata is None:
        return template
    return f"metadata-{len(metadata.get('annotations', {}))}-{len(metadata.get('labels', {}))}-{template}"


def node_names(workflow: str, ids: Collection[str], labels: Iterable[str]) -> dict[str, str]:
    """The names of a workflow's nodes, by id: whatever can be made of the labels is tried, and has one of the ids.

    `labels`: display names, as `gate` or `gate(1)`.
    """
    words = {label.partition("(")[0] for label in labels}
    attempts = {int(number) for label in labels for number in re.findall(r"\((\d+)\)$", label)}
    endings = [f"({number})" for number in sorted(attempts)] + [f".{word}" for word in sorted(words)]
    found, waiting = dict[str, str](), [workflow]
    while waiting:
        name = waiting.pop()
        for node in (f"{name}{ending}" for ending in endings):
            key = f"{workflow}-{_fnv32a(node.encode())}"
            if key in ids and key not in found:
                found[key] = node
                waiting.append(node)
    return found


def path(node: str, workflow: str) -> str:
    """A node's path without its attempts: that of a `Step`, or of its pod with `.executor` behind it."""
    return re.sub(r"\(\d+\)", "", node).removeprefix(f"{workflow}.")


def pod_names(step: Step, workflow: str, nodes: Iterable[str]) -> list[str]:
    """The names of a step's pods among a workflow's nodes, newest attempt first, as Argo makes them."""
    own = [node for node in nodes if path(node, workflow) == f"{step.node}.executor"]
    # Where Argo may try again, the pods are the attempts and not what holds them.
    tried = [node for node in own if node.endswith(")")] or own
    tried.sort(key=lambda node: [int(number) for number in re.findall(r"\((\d+)\)", node)], reverse=True)
    return [f"{workflow}-{step.template}-{_fnv32a(node.encode())}" for node in tried]


def _fnv32a(content: bytes) -> int:
    digest = 0x811C9DC5
    for byte in content:
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return digest
