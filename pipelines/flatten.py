"""Conditions on the tasks themselves, instead of on groups of them: the graph then reads at its first level.

KFP's compiler makes a sub-DAG of every `dsl.If`: a box that hides what is in it, and a driver pod more. The IR lets any
task carry a condition; both the cluster's driver and the local runner evaluate it. What depends on a task that was
skipped is skipped as well: on the cluster because it has not succeeded, on the local runner since every task carries
the condition of its group, and one that reads what a skipped task would have said does not hold.
"""

import copy
import re

READ = re.compile(r"inputs\.parameter_values\['([^']+)'\]")


def flatten(ir: dict) -> dict:
    """The same pipeline without groups of conditions; the IR is that of `kfp.compiler`, as a tree."""
    ir = copy.deepcopy(ir)
    components = ir["components"]
    while found := next(_groups(ir), None):
        dag, name = found
        group = dag["tasks"].pop(name)
        members = components[group["componentRef"]["name"]]["dag"]["tasks"]
        for inner, task in members.items():
            assert inner not in dag["tasks"], f"two tasks are called {inner}"
            dag["tasks"][inner] = _hoisted(task, group, members, components[task["componentRef"]["name"]])
    used = {task["componentRef"]["name"] for dag in _dags(ir) for task in dag["tasks"].values()}
    ir["components"] = {name: component for name, component in components.items() if name in used}
    return ir


def _dags(ir: dict):
    yield ir["root"]["dag"]
    yield from (component["dag"] for component in ir["components"].values() if "dag" in component)


def _groups(ir: dict):
    for dag in _dags(ir):
        for name, task in dag["tasks"].items():
            if task["componentRef"]["name"].startswith("comp-condition-"):
                yield dag, name


def _hoisted(task: dict, group: dict, members: dict, component: dict) -> dict:
    """A task of a group, with its `members`, as one of the DAG that the group is in."""
    given, task = group.get("inputs", {}), copy.deepcopy(task)
    inputs, policy = task.setdefault("inputs", {}), task.setdefault("triggerPolicy", {})
    asked = [inputs["parameters"][name] for name in READ.findall(policy.get("condition", ""))]
    for kind, reference in (("parameters", "componentInputParameter"), ("artifacts", "componentInputArtifact")):
        for name, source in inputs.get(kind, {}).items():
            if reference in source:
                inputs[kind][name] = {**given[kind][source[reference]]}
    # What a member says is said only if the group's condition holds: whoever asks it need not ask for the group's.
    # A loop waits for a member that was skipped in vain; a condition of its own would be asked in each turn as well.
    loops = "parameterIterator" in task
    assert not loops or set(_producers(inputs)) & set(members), "a loop in a group needs something of that group"
    if not loops and not any(source.get("taskOutputParameter", {}).get("producerTask") in members for source in asked):
        condition = group["triggerPolicy"]["condition"]
        for name in READ.findall(condition):
            inputs.setdefault("parameters", {})[name] = {**given["parameters"][name]}
            definitions = component.setdefault("inputDefinitions", {}).setdefault("parameters", {})
            definitions[name] = {"parameterType": "STRING", "isOptional": True}
        policy["condition"] = " && ".join([condition, *([policy["condition"]] if "condition" in policy else [])])
    task["dependentTasks"] = sorted({*task.get("dependentTasks", []), *_producers(inputs)})
    return task


def _producers(inputs: dict) -> list[str]:
    """The tasks that a task's inputs come from."""
    sources = [source for kind in inputs.values() for source in kind.values()]
    found = [source.get("taskOutputParameter") or source.get("taskOutputArtifact") for source in sources]
    return [source["producerTask"] for source in found if source]
