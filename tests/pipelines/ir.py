"""The compiled pipelines as trees, for tests that compare what they mean and not how they are written."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
COMPUTE = {"validate-data", "preprocess", "finetune", "evaluate"}


def read(path):
    """A compiled file: the IR, and what is asked of Kubernetes by executor."""
    ir, platform = yaml.safe_load_all(path.read_text())
    return ir, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def dags(ir):
    yield "root", ir["root"]
    for name, component in ir["components"].items():
        if "dag" in component:
            yield name, component


def tasks(ir):
    for _, dag in dags(ir):
        yield from dag["dag"]["tasks"].items()


def step(ir, task):
    """The step of a task, by the function that its container runs; None for a nested pipeline."""
    label = ir["components"][task["componentRef"]["name"]].get("executorLabel")
    if label is None:
        return None
    container = ir["deploymentSpec"]["executors"][label]["container"]
    return container["args"][container["args"].index("--function_to_execute") + 1]


def meaning(ir, kubernetes):
    """Tasks, wiring and form without the components' source code; and what is asked of Kubernetes, by step."""
    graph = {
        name: {
            key: {part: value for part, value in found.items() if part != "componentRef"}
            for key, found in dag["dag"]["tasks"].items()
        }
        for name, dag in dags(ir)
    }
    asked = {}
    for _, task in tasks(ir):
        if name := step(ir, task):
            label = ir["components"][task["componentRef"]["name"]]["executorLabel"]
            resources = ir["deploymentSpec"]["executors"][label]["container"].get("resources", {})
            asked[name] = {"resources": resources, "kubernetes": kubernetes[label]}
    return {"form": ir["root"]["inputDefinitions"]["parameters"], "graph": graph, "asked": asked}
