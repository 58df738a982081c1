"""params.yaml, typed and strict: every tunable of an experiment, one frozen model per section.

    params = load_params(Path("params.yaml"), overrides=["finetuning.epochs=2"])

A key that does not exist is refused with its nearest right one, a wrong value with the allowed range.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from tokka.errors import UsageError
from tokka.sections import (
    Adaptation,
    Canary,
    Data,
    EarlyStopping,
    Evaluation,
    Export,
    Finetuning,
    Gate,
    Model,
    Monitoring,
    Preprocessing,
    Registry,
    Retraining,
    Section,
    Task,
    Validation,
)
from tokka.sections_serving import Serving

__all__ = [
    "GATED",
    "Adaptation",
    "Canary",
    "Data",
    "EarlyStopping",
    "Evaluation",
    "Export",
    "Finetuning",
    "Gate",
    "Model",
    "Monitoring",
    "Params",
    "Preprocessing",
    "Registry",
    "Retraining",
    "Section",
    "Serving",
    "Task",
    "Validation",
    "load_params",
    "parse_params",
]


# What gate.metric may be, by task, and whether more of it is better.
GATED = {
    "classification": {"accuracy": True, "f1_macro": True, "f1_weighted": True, "recall_macro": True},
    "regression": {"mae": False, "rmse": False},
}


class Params(Section):
    """The whole of params.yaml."""

    task: Task = Task()
    data: Data = Data()
    validation: Validation = Validation()
    preprocessing: Preprocessing = Preprocessing()
    model: Model = Model()
    adaptation: Adaptation = Adaptation()
    finetuning: Finetuning = Finetuning()
    export: Export = Export()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    registry: Registry = Registry()
    canary: Canary = Canary()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    serving: Serving = Serving()

    @model_validator(mode="after")
    def _each_slice_is_named_once(self) -> "Params":
        twice = sorted({name for name in self.task.slices if self.task.slices.count(name) > 1})
        if twice:
            raise ValueError(f"task.slices names {', '.join(map(repr, twice))} more than once; name every column once")
        return self

    @model_validator(mode="after")
    def _the_gate_can_judge(self) -> "Params":
        """Said now: the gate comes after the training."""
        asked, known = self.gate.metric, GATED[self.task.type]
        if asked != "auto" and asked not in known:
            raise ValueError(
                f"gate.metric = {asked!r} does not judge task.type = {self.task.type!r}; "
                f"set one of auto, {', '.join(known)}, or change task.type"
            )
        if self.gate.beat_general and not self.evaluation.general.measure:
            raise ValueError(
                "gate.beat_general = True needs the general baseline, which evaluation.general.measure = False leaves "
                "out; set gate.beat_general: false, or measure it"
            )
        return self


def load_params(path: Path, overrides: Iterable[str] = ()) -> Params:
    """Read params.yaml and lay `section.key=value` overrides over it.

    Raises:
        UsageError: the file is missing or no YAML mapping, a key is unknown, or a value is out of range.
    """
    tree = _read_yaml(path)
    for override in overrides:
        _apply(tree, override)
    return parse_params(tree, origin=str(path))


def parse_params(tree: Mapping[str, Any], origin: str = "params.yaml") -> Params:
    """Check a plain mapping against the sections above.

    Raises:
        UsageError: as `load_params`.
    """
    try:
        return Params.model_validate(dict(tree))
    except ValidationError as error:
        hint = "see params.yaml: every key stands there with its default"
        raise UsageError(f"{origin}: {_explain(error)}", hint) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "run from the project's root, or name the file with --params"
        raise UsageError(f"{path} does not exist", hint) from None
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-13-45 is a ValueError
        problem = " ".join(str(error).split())
        raise UsageError(f"{path} is not YAML: {problem}", "mend the line that is named") from None
    if tree is not None and not isinstance(tree, dict):
        raise UsageError(f"{path} holds a {type(tree).__name__}, expected sections with keys")
    return tree or {}


def _apply(tree: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise UsageError(f"--set {override!r} is not section.key=value", "for example: --set finetuning.epochs=2")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # a date such as 2024-13-45 is a ValueError
        value = text
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UsageError(f"--set {override!r}: {key!r} is a value, not a section")
    tree[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.4)
        return f"unknown key {name!r}; " + (
            f"did you mean {'.'.join([*place[:-1], near[0]])!r}?" if near else f"known here: {', '.join(known)}"
        )
    message = first["msg"].removeprefix("Value error, ")
    if not place:  # of two sections that contradict each other: the message names both
        return message
    return f"{name} = {first['input']!r}: {message[:1].lower()}{message[1:]}"


def _known_keys(place: list[str]) -> list[str]:
    model: Any = Params
    for part in place:
        model = model.model_fields[part].annotation if part in model.model_fields else None
        if model is None or not hasattr(model, "model_fields"):
            return []
    return sorted(model.model_fields)
