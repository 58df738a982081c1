"""The seam to the Kubernetes API: five verbs on a few kinds of objects; connection.py is the real one."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from tokka.errors import Refused, TokkaError

# An object of the API as JSON has it.
Object = dict[str, Any]


class Kind(NamedTuple):
    """A kind of objects, by the path that the API has for it."""

    version: str
    plural: str
    is_namespaced: bool = True


INFERENCE_SERVICES = Kind("serving.kserve.io/v1beta1", "inferenceservices")
PODS = Kind("v1", "pods")
EVENTS = Kind("v1", "events")
CONFIG_MAPS = Kind("v1", "configmaps")
DEFINITIONS = Kind("apiextensions.k8s.io/v1", "customresourcedefinitions", is_namespaced=False)


class Conflict(TokkaError):
    """Somebody changed the object since it was read, or made one of this name: read it again."""


class NoAnswer(TokkaError):
    """The API gave no answer, or one that it cannot just now: what was asked may have been done. Read before asking."""


class Denied(TokkaError):
    """This account may not do that."""


class Invalid(Refused):
    """The API or an admission webhook refused an object for what it says."""


class Api(Protocol):
    """The Kubernetes API. Every method raises Conflict, NoAnswer, Denied or Invalid as the server answers."""

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """One object; None when there is none, nor such a kind."""

    def list(self, kind: Kind, labels: Mapping[str, str]) -> list[Object]:
        """The objects that carry all these labels."""

    def create(self, kind: Kind, body: Object) -> Object:
        """Make an object."""

    def patch(self, kind: Kind, name: str, body: Object) -> Object:
        """Merge (RFC 7386) into an object; with `metadata.resourceVersion` only if it is still as it was read."""

    def delete(self, kind: Kind, name: str, version: str) -> None:
        """Delete an object if it still is of this resource version; one that is gone is no error."""

    def groups(self) -> set[str]:
        """The names of the API groups that the cluster serves."""
