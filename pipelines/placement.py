"""infra/kubernetes/pipeline.yaml, typed: what each step asks of the cluster.

A wrong key or value is a UsageError that names the place, before anything is compiled.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokka.errors import UsageError
from tokka.params import explain, merged, read_yaml

FILE = Path("infra/kubernetes/pipeline.yaml")
# Lists of which a step has those of `every_step` as well as its own.
JOINED = ("environment", "volumes", "tolerations", "node_affinity")

Duration = Annotated[str, Field(pattern=r"^[1-9]\d*(s|m|h)$")]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Folder = Annotated[str, Field(pattern=r"^/[\w./-]+$")]
Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A part of the file that knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Amount(Section):
    """What a container is sure to get, and the most that it may take."""

    request: Quantity
    limit: Quantity


class Retries(Section):
    """How often a step that failed is tried again, after how long, and for how long after its first attempt began."""

    most: Annotated[int, Field(ge=0, le=10)] = 2
    first_after: Duration = "20s"
    factor: Annotated[float, Field(ge=1.0)] = 2.0
    within: Duration = "1h"


class Source(Section):
    """A Secret or a ConfigMap; a pod starts without one that is not there."""

    secret: Name | None = None
    config_map: Name | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Source":
        if (self.secret is None) == (self.config_map is None):
            raise ValueError("name a secret or a config_map, and not both")
        return self


class Environment(Source):
    """Keys that become environment variables of the same name."""

    keys: tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], ...]


class Volume(Source):
    """Files in a folder of their own."""

    path: Folder


class Scratch(Section):
    """An empty folder that lasts as long as the pod."""

    path: Folder
    size: Quantity


class Gpu(Section):
    """Devices that the node hands out."""

    resource: str = "nvidia.com/gpu"
    count: Annotated[int, Field(ge=1)] = 1


class Toleration(Section):
    """A taint of nodes that the step does not mind."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Expression(Section):
    """What a label of the node must be."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: tuple[str, ...] = ()


class Placement(Section):
    """What one step asks for; `user` is the number of the user that it runs as, never root."""

    cpu: Amount
    memory: Amount
    user: Annotated[int, Field(ge=1)]
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    retries: Retries = Retries()
    timeout: Duration
    environment: tuple[Environment, ...] = ()
    volumes: tuple[Volume, ...] = ()
    scratch: Scratch | None = None
    gpu: Gpu | None = None
    node_selector: dict[str, str] = {}
    node_affinity: tuple[Expression, ...] = ()
    tolerations: tuple[Toleration, ...] = ()


class Cluster(Section):
    """The whole file, as far as its shape goes: what stands in a step is checked when the step is put together."""

    service_account: Name
    every_step: dict[str, object]
    steps: dict[str, dict[str, object]] = {}
    profiles: dict[str, dict[str, dict[str, object]]] = {}


def load(root: Path, steps: tuple[str, ...], profile: str = "") -> dict[str, Placement]:
    """The placement of every one of `steps` under a profile.

    UsageError for a file that is missing or wrong, a step that no pipeline has, or a profile that the file lacks.
    """
    found = _checked(Cluster, read_yaml(root / FILE, "it comes with the project"), "")
    if profile and profile not in found.profiles:
        raise UsageError(f"{FILE} has no profile {profile!r}", f"its profiles are: {', '.join(found.profiles)}")
    own = found.profiles[profile] if profile else {}
    for place, named in (("steps", found.steps), *((f"profiles.{name}", one) for name, one in found.profiles.items())):
        if strange := sorted(set(named) - set(steps)):
            raise UsageError(f"{FILE}: {place}.{strange[0]} is no step", f"the steps are: {', '.join(steps)}")
    return {step: _placement(step, found.every_step, found.steps.get(step, {}), own.get(step, {})) for step in steps}


def seconds(duration: str) -> int:
    """90m as 5400."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def _placement(step: str, *layers: dict[str, object]) -> Placement:
    tree: dict[str, object] = {}
    for layer in layers:
        lists = {name: [*tree.get(name, []), *(layer.get(name) or [])] for name in JOINED if name in layer}
        tree = merged(tree, layer) | lists
    return _checked(Placement, tree, f"{step}.")


def _checked(model: type[Model], tree: dict[str, object], place: str) -> Model:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        known = model.model_fields if len(first["loc"]) == 1 else ()
        raise UsageError(f"{FILE}: {place}{explain(first, known)}", "see the file: every key stands there") from None
