"""params.yaml, typed and strict: every tunable of an experiment, one frozen model per section.

A key that does not exist is refused with its nearest right one, a wrong value with the allowed range.
"""

import difflib
import functools
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError, model_validator

from tokka import files, sections
from tokka.errors import TokkaError, UsageError
from tokka.files import JsonObject
from tokka.sections_serving import Canary, Deployment, Monitoring, Notifications, Retraining, Review, Serving, Triggers

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# The fields of a pipeline's form, and the key of params.yaml that each of them sets.
FORM = {
    "endpoint": "registry.model",
    "data_source": "data.source",
    "text_column": "task.text",
    "label_column": "task.target",
    "strategy": "finetuning.strategy",
    "base_model": "model.base",
    "epochs": "finetuning.epochs",
    "review": "registry.review",
}
# Beside the sections of params that were `written` down: over which defaults.
DEFAULTS = "defaults"
# What gate.metric may be, by task, and whether more of it is better.
GATED = {
    "classification": {"accuracy": True, "f1_macro": True, "f1_weighted": True, "recall_macro": True},
    "regression": {"mae": False, "rmse": False},
}


class Params(sections.Section):
    """The whole of params.yaml."""

    task: sections.Task = sections.Task()
    data: sections.Data = sections.Data()
    validation: sections.Validation = sections.Validation()
    preprocessing: sections.Preprocessing = sections.Preprocessing()
    model: sections.Model = sections.Model()
    adaptation: sections.Adaptation = sections.Adaptation()
    finetuning: sections.Finetuning = sections.Finetuning()
    export: sections.Export = sections.Export()
    evaluation: sections.Evaluation = sections.Evaluation()
    gate: sections.Gate = sections.Gate()
    registry: sections.Registry = sections.Registry()
    review: Review = Review()
    canary: Canary = Canary()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    serving: Serving = Serving()
    deployment: Deployment = Deployment()
    notifications: Notifications = Notifications()
    triggers: Triggers = Triggers()

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

    UsageError when the file is missing or no YAML mapping, a key is unknown, or a value is out of range.
    """
    tree = read_yaml(path, "run from the project's root, or name the file with --params")
    for override in overrides:
        _apply(tree, override)
    return parse_params(tree, origin=str(path))


def parse_params(tree: Mapping[str, object], origin: str = "params.yaml") -> Params:
    """Check a plain mapping against the sections above; the errors are those of `load_params`."""
    own = {name: value for name, value in tree.items() if name != DEFAULTS}
    if tree.get(DEFAULTS, defaults_digest()) != defaults_digest():
        raise UsageError(
            f"{origin} was written down over other defaults than this code has",
            "build the image from the commit that submits, and submit again",
        )
    try:
        return Params.model_validate(own)
    except ValidationError as error:
        known = _known_keys(error.errors()[0]["loc"][:-1])
        raise UsageError(
            f"{origin}: {explain(error.errors()[0], known)}", "see params.yaml: every key stands there with its default"
        ) from None


def written(params: Params) -> JsonObject:
    """The params as what differs from the code's defaults, with a digest of those: `parse_params` reads them back.

    Each pod of a run carries them, and all of them together must stay below the 1 MB that Kubernetes keeps of a run.
    """
    tree = params.model_dump(mode="json", exclude_none=True)
    return {DEFAULTS: defaults_digest(), **differences(tree, _defaults())}


@functools.cache
def defaults_digest() -> str:
    """Of what the code says where params.yaml says nothing."""
    return files.digest_json(_defaults())[:16]


@functools.cache
def _defaults() -> JsonObject:
    return Params().model_dump(mode="json", exclude_none=True)


def differences(tree: Mapping[str, object], base: Mapping[str, object]) -> JsonObject:
    """What has to be laid over `base` to make it `tree`, key by key; a list is one value."""
    found: JsonObject = {}
    for key, value in tree.items():
        below = base.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            if inner := differences(value, below):
                found[key] = inner
        elif key not in base or value != below:
            found[key] = value
    return found


def form_fields(params: Params) -> dict[str, str | int]:
    """The fields of the form that say what these params say."""
    tree = params.model_dump(mode="json")
    return {field: tree[key.partition(".")[0]][key.partition(".")[2]] for field, key in FORM.items()}


def from_form(root: Path, fields: Mapping[str, object], overrides: Mapping[str, object]) -> Params:
    """`compose` over the params.yaml of the project at `root`, which is not read when `overrides` stands for itself."""
    return compose(Params() if is_whole(overrides) else load_params(root / "params.yaml"), fields, overrides)


def is_whole(overrides: Mapping[str, object]) -> bool:
    """Whether a tree stands for itself: it names every section, or the defaults that it was written down over."""
    return DEFAULTS in overrides or set(Params.model_fields) <= set(overrides)


def compose(base: Params, fields: Mapping[str, object], overrides: Mapping[str, object]) -> Params:
    """The params of a run that was started from a form: of `base`, then `fields`, then `overrides`.

    `base`: the image's own params.yaml; `fields`: by the names of FORM, an empty text and 0 say nothing; `overrides`: a
    tree of sections. One that names every section, or was `written`, stands for itself and `base` counts for nothing:
    whoever sends all of params.yaml gets exactly that. UsageError when a field and `overrides` contradict each other, a
    key is unknown, or a value is out of range.
    """
    tree = {} if is_whole(overrides) else base.model_dump(mode="json", exclude_none=True)
    for field, value in fields.items():
        if value in ("", 0, None):
            continue
        section, _, key = FORM[field].partition(".")
        _require_agreement(field, value, overrides)
        tree[section] = {**tree.get(section, {}), key: value}
    return parse_params(merged(tree, overrides), origin="the form")


def merged(tree: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """A tree with another laid over it, key by key; a list is one value."""
    found = dict(tree)
    for key, value in over.items():
        below = found.get(key)
        found[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return found


def _require_agreement(field: str, value: object, overrides: Mapping[str, object]) -> None:
    section, _, key = FORM[field].partition(".")
    within = overrides.get(section)
    if not isinstance(within, Mapping) or within.get(key, value) == value:
        return
    raise UsageError(
        f"{field} = {value!r} contradicts {section}.{key} = {within[key]!r} in overrides",
        f"leave {section}.{key} out of overrides, or give {field} the same value",
    )


def read_yaml(path: Path, missing: str, expected: str = "sections with keys") -> dict[str, object]:
    """A file of YAML 1.2 with keys; an empty one has none.

    `missing`: what to do when there is no such file. UsageError when it cannot be read, is not YAML, has a key twice,
    or holds something else.
    """
    try:
        files.check_readable(path, missing)
        tree = files.parse_yaml(path.read_text(encoding="utf-8-sig"))
    except files.StandsTwice as error:
        raise UsageError(f"{path}: {error}", "keep one of them: the other one would count for nothing") from None
    except TokkaError as error:
        raise UsageError(error.message, error.hint) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}", "mend the line that is named") from None
    if tree is not None and not isinstance(tree, dict):
        raise UsageError(f"{path} holds a {type(tree).__name__}, expected {expected}")
    return tree or {}


def _apply(tree: dict[str, object], override: str) -> None:
    name, separator, text = override.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise UsageError(f"--set {override!r} is not section.key=value", "for example: --set finetuning.epochs=2")
    value = _value(keys, text.strip())
    for key in keys[:-1]:
        section = tree.setdefault(key, {})
        if not isinstance(section, dict):
            raise UsageError(f"--set {override!r}: {key!r} is a value, not a section")
        tree = section
    tree[keys[-1]] = value


def _value(keys: list[str], text: str) -> object:
    """What follows --set as YAML has it; where a text belongs, as it was typed, so that a column may be called 1."""
    try:
        value = files.parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    model = _model_at(keys[:-1])
    kinds = _kinds(model.model_fields[keys[-1]].annotation) if model and keys[-1] in model.model_fields else set()
    quoted, nothing = isinstance(value, str) and text[:1] in "\"'", value is None and NoneType in kinds
    return text if str in kinds <= {str, NoneType} and not quoted and not nothing else value


def _kinds(annotation: object) -> set[object]:
    """The types that a key's value may have, without what narrows them."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    return {annotation}


def explain(error: "ErrorDetails", known: Iterable[str], skipped: Collection[str] = ()) -> str:
    """A fault that pydantic found, in one line; a key that is unknown with its nearest right one.

    `known`: the keys that may stand where the fault is; `skipped`: parts of the place that pydantic adds and the file
    does not have.
    """
    place = [str(part) for part in error["loc"] if part not in skipped]
    name, known = ".".join(place), sorted(known)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.4)
        # The whole name is what --set takes; a place in a list has none.
        within = [] if any(isinstance(part, int) for part in error["loc"]) else place[:-1]
        meant = f"did you mean {'.'.join([*within, *near])!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {name!r}; {meant}"
    message = error["msg"].removeprefix("Value error, ")
    if not place:  # of two sections that contradict each other: the message names both
        return message
    given = "" if isinstance(error["input"], dict) else f" = {error['input']!r}"
    quoted = f"; write it in quotes: '{error['input']}'" if error["type"] == "string_type" and given else ""
    return f"{name}{given}: {message[:1].lower()}{message[1:]}{quoted}"


def _known_keys(place: Iterable[str | int]) -> list[str]:
    model = _model_at(place)
    return list(model.model_fields) if model else []


def _model_at(place: Iterable[str | int]) -> type[BaseModel] | None:
    """The section at a place of the file; None where there is none."""
    model: type[BaseModel] = Params
    for part in place:
        if isinstance(part, int):  # an entry of a list, whose keys are those of its kind
            continue
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        inner = next(iter(get_args(inner)), inner)
        if not isinstance(inner, type) or not issubclass(inner, BaseModel):
            return None
        model = inner
    return model
