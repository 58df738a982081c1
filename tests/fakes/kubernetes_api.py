"""The Kubernetes API in memory, behind tokka.kubernetes.api.Api: resource versions, conflicts, lost answers.

api = FakeApi(); api.faults["patch"] = [Fault.TIMEOUT_AFTER, None, Fault.CONFLICT]

What comes in must be read by the models of the package `kserve` without a field that these do not know. A webhook may
be set as `admit`; `guard` surrounds every write.
"""

import contextlib
import copy
import enum
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from kserve import models

from tokka.kubernetes.api import INFERENCE_SERVICES, PODS, Conflict, Denied, Invalid, Kind, NoAnswer, Object


class Fault(enum.Enum):
    """How a call goes wrong."""

    CONFLICT = "somebody else was faster"
    TIMEOUT_BEFORE = "it never arrived"
    TIMEOUT_AFTER = "it was done, and the answer was lost"
    BUSY = "429"
    BROKEN = "500"
    DENIED = "403"


class FakeApi:
    """Objects by kind and name."""

    def __init__(self, groups: tuple[str, ...] = ("serving.kserve.io", "gateway.networking.k8s.io")) -> None:
        self.objects: dict[Kind, dict[str, Object]] = defaultdict(dict)
        self.faults: dict[str, list[Fault | None]] = defaultdict(list)
        self.guard: Callable[[], Any] = contextlib.nullcontext
        self.admit: Callable[[Object | None, Object], None] = lambda old, new: None
        self.changed: Callable[[Object | None, Object | None], None] = lambda old, new: None
        self.known_groups, self.pods, self.calls = set(groups), list[Object](), list[tuple[str, str]]()
        self._version = 100

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        with self._call("get", kind, name):
            return copy.deepcopy(self.objects[kind].get(name))

    def list(self, kind: Kind, labels: Mapping[str, str]) -> list[Object]:
        with self._call("list", kind, ""):
            found = self.pods if kind == PODS else list(self.objects[kind].values())
            return [copy.deepcopy(one) for one in found if labels.items() <= one["metadata"]["labels"].items()]

    def create(self, kind: Kind, body: Object) -> Object:
        with self._write("create", kind, body["metadata"]["name"]):
            if body["metadata"]["name"] in self.objects[kind]:
                raise Conflict("AlreadyExists")
            return self._store(kind, copy.deepcopy(body))

    def patch(self, kind: Kind, name: str, body: Object) -> Object:
        with self._write("patch", kind, name):
            old = self.objects[kind].get(name)
            if old is None or body["metadata"].get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
                raise Conflict("the object has been modified")
            return self._store(kind, merged(old, body))

    def delete(self, kind: Kind, name: str, version: str) -> None:
        with self._write("delete", kind, name):
            old = self.objects[kind].get(name)
            if old is None:
                return
            if old["metadata"]["resourceVersion"] != version:
                raise Conflict("the object has been modified")
            del self.objects[kind][name]
            self.changed(old, None)

    def groups(self) -> set[str]:
        return self.known_groups

    def edit(self, kind: Kind, name: str, body: Object) -> None:
        """As somebody does by hand."""
        self._store(kind, merged(self.objects[kind][name], body))

    def _store(self, kind: Kind, new: Object) -> Object:
        old = self.objects[kind].get(new["metadata"]["name"])
        if kind == INFERENCE_SERVICES:
            require_known(new, models.V1beta1InferenceService)
            self.admit(old, new)
        self._version += 1
        moved = old is None or old["spec"] != new["spec"] if "spec" in new else False
        generation = (old["metadata"]["generation"] if old else 0) + moved
        new["metadata"] |= {"resourceVersion": str(self._version), "generation": generation, "uid": "u"}
        self.objects[kind][new["metadata"]["name"]] = new
        if kind == INFERENCE_SERVICES:
            self.changed(old, new)
        return copy.deepcopy(new)

    @contextlib.contextmanager
    def _write(self, verb: str, kind: Kind, name: str) -> Any:
        with self.guard(), self._call(verb, kind, name):
            yield

    @contextlib.contextmanager
    def _call(self, verb: str, kind: Kind, name: str) -> Any:
        self.calls.append((verb, f"{kind.plural}/{name}"))
        fault = self.faults[verb].pop(0) if self.faults[verb] else None
        if fault in (Fault.TIMEOUT_BEFORE, Fault.BUSY, Fault.BROKEN):
            raise NoAnswer(fault.value)
        if fault is Fault.CONFLICT:
            raise Conflict(fault.value)
        if fault is Fault.DENIED:
            raise Denied(fault.value)
        yield
        if fault is Fault.TIMEOUT_AFTER:
            raise NoAnswer(fault.value)


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    new = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merged(new.get(name), value)
    return new


def require_known(found: Any, model: type, path: str = "") -> None:
    """See that an object holds no field which its model does not know, nor lacks one that it requires."""
    fields = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for name, value in found.items():
        if name not in fields:
            raise Invalid(f"unknown field {path}{name}")
        inner = fields[name].removeprefix("list[").rstrip("]")
        kind = getattr(models, inner, None)
        if kind is None or name in ("metadata", "status"):
            continue
        for one in value if fields[name].startswith("list[") else [value]:
            require_known(one, kind, f"{path}{name}.")
