"""What KServe makes predictors of, who may ask them, consumers of jobs: valid, confined, started as on a laptop."""

import copy
import json
from pathlib import Path
from typing import Any

import kserve
import kubernetes_validate
import pytest

from tests.manifests.objects import Object, build, of_kind
from tests.manifests.pod_rules import no_token
from tests.manifests.rules import POD_RULES, named_namespace, no_credential_in_text
from tests.manifests.selectors import services
from tests.manifests.test_overlays import KUBERNETES
from tokka.deployment.kserve.inference_service import FORMAT, GRACE_S, Wanted, predictor
from tokka.deployment.record.state import Revision
from tokka.gateway.authorizer import Options
from tokka.jobs.broker import Queues
from tokka.params import Params
from tokka.registry.model_uri import SCHEME
from tokka.request_log import shipping
from tokka.serving.options import ENVIRONMENT, WorkerOptions, command
from tokka.serving.service import LONGEST_QUIET_SECONDS

COMPONENTS = ("authorization", "consumer", "notifications", "serving")
# Of KServe and KEDA: Kubernetes' schemas do not have them.
FOREIGN = {"ClusterServingRuntime", "ClusterStorageContainer", "ScaledObject", "TriggerAuthentication"}
CLUSTER_WIDE = {"ClusterServingRuntime", "ClusterStorageContainer"}
GATEWAY_TIMEOUT_S, UVICORN_S = 60, 10


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """The objects of each component by its name, as an overlay gets them."""
    built = {}
    for name in COMPONENTS:
        folder = tmp_path_factory.mktemp(name)
        component = Path("infra/kubernetes/components").absolute() / name
        relative = Path("../" * (len(folder.parts) - 1)) / component.relative_to("/")
        images = "images: [{name: tokka/server, newTag: dev}, {name: tokka/pipeline, newTag: dev}]"
        head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization"
        (folder / "kustomization.yaml").write_text(f"{head}\ncomponents: [{relative}]\n{images}\n")
        built[name] = build(folder)
    return built


@pytest.fixture
def runtime(components: dict[str, list[Object]]) -> Object:
    (found,) = of_kind(components["serving"], "ClusterServingRuntime")
    return copy.deepcopy(found["spec"])


@pytest.fixture
def storage(components: dict[str, list[Object]]) -> Object:
    (found,) = of_kind(components["serving"], "ClusterStorageContainer")
    return copy.deepcopy(found["spec"])


def asked() -> Object:
    """The predictor of an InferenceService that the reconciler writes."""
    revision = Revision(version="3", digest="a" * 64)
    return predictor(Wanted("desk", 1, revision, None, 0, 2, 2), revision)


def pod(runtime: Object, storage: Object) -> Object:
    """What KServe makes of runtime, storage container and predictor."""
    wanted, container = asked(), runtime["containers"][0]
    mount = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
    first = {**storage["container"], "args": [wanted["model"]["storageUri"], "/mnt/models"]}
    for one in (first, container):
        one["volumeMounts"] = [*one["volumeMounts"], mount]
    names = (
        "automountServiceAccountToken", "terminationGracePeriodSeconds", "securityContext", "topologySpreadConstraints",
    )  # fmt: skip
    spec = {name: wanted[name] for name in names} | {"initContainers": [first], "containers": [container]}
    spec |= {"volumes": [*runtime["volumes"], {"name": mount["name"], "emptyDir": {"sizeLimit": "1Gi"}}]}
    spec |= {"affinity": runtime["affinity"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "tokka"}, "spec": spec}


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_is_valid_and_keeps_the_rules(components: dict[str, list[Object]], name: str):
    ours = [one for one in components[name] if one["kind"] not in FOREIGN]
    assert [kubernetes_validate.validate(one, KUBERNETES, strict=True) for one in ours] == [KUBERNETES] * len(ours)
    spaced = [one for one in components[name] if one["kind"] not in CLUSTER_WIDE]
    rules = [*POD_RULES, no_credential_in_text, services]
    assert [finding for rule in rules for finding in rule(ours)] == []
    assert [*named_namespace(spaced)] == []


def test_a_predictors_pod_is_valid_and_keeps_the_rules(runtime: Object, storage: Object):
    made = pod(runtime, storage)
    assert kubernetes_validate.validate(made, KUBERNETES, strict=True) == KUBERNETES
    rules = [rule for rule in POD_RULES if rule is not no_token]
    assert [finding for rule in rules for finding in rule([made])] == []
    assert made["spec"]["automountServiceAccountToken"] is False
    mounted = {
        one["name"] for part in ("initContainers", "containers") for one in made["spec"][part][0]["volumeMounts"]
    }
    assert mounted == {one["name"] for one in made["spec"]["volumes"]}


def test_kserve_knows_every_field_of_the_runtime(runtime: Object):
    assert unknown(kserve.V1alpha1ServingRuntimeSpec, runtime) == []


def test_a_field_that_kserve_does_not_know_is_found(runtime: Object):
    runtime["supportedModelFormats"][0]["autoselect"] = True
    assert unknown(kserve.V1alpha1ServingRuntimeSpec, runtime) == ["supportedModelFormats.autoselect"]


def test_runtime_storage_container_and_reconciler_name_the_same(runtime: Object, storage: Object):
    model = asked()["model"]
    assert runtime["supportedModelFormats"] == [{"name": FORMAT, "version": "1", "autoSelect": True}]
    assert model["modelFormat"]["name"] == FORMAT and model["protocolVersion"] in runtime["protocolVersions"]
    assert storage["supportedUriFormats"] == [{"prefix": SCHEME}] and model["storageUri"].startswith(SCHEME)
    assert {runtime["containers"][0]["image"], storage["container"]["image"]} == {"tokka/server:dev"}


def test_a_laptops_worker_is_started_by_the_same_words(runtime: Object):
    container, options = runtime["containers"][0], serving_options(runtime)
    assert container["command"][1:] == command(options)[1:-1]
    assert {one["name"]: one.get("value") for one in container["env"]}.items() >= ENVIRONMENT.items()
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"http1": options.port, "h2c": options.grpc_port}


def test_a_drain_is_longer_than_a_gateway_waits_and_ends_in_time(runtime: Object):
    drain = serving_options(runtime).drain_s
    before = int(runtime["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert drain > GATEWAY_TIMEOUT_S
    assert before + drain + LONGEST_QUIET_SECONDS <= GRACE_S - UVICORN_S
    assert before + drain + shipping.LAST_S + 1 < GRACE_S


def test_the_authorizer_understands_its_argument(components: dict[str, list[Object]]):
    (deployment,) = of_kind(components["authorization"], "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert Options.model_validate_json(container["args"][0]).port == container["ports"][0]["containerPort"]


def test_consumers_are_as_many_as_the_queue_is_long(components: dict[str, list[Object]]):
    (scaled,), (deployment,) = (of_kind(components["consumer"], kind) for kind in ("ScaledObject", "Deployment"))
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "two that set it would fight"
    endpoint = Params.model_validate({}).registry.model
    assert scaled["spec"]["triggers"][0]["metadata"]["queueName"] == Queues(endpoint).jobs


def serving_options(runtime: Object) -> WorkerOptions:
    return WorkerOptions.model_validate(json.loads(runtime["containers"][0]["args"][0]))


def unknown(kind: Any, found: Object) -> list[str]:
    """What a model of KServe's package has no place for; its parts of Kubernetes' own kinds are not looked into."""
    names = {json_name: name for name, json_name in kind.attribute_map.items()}
    lost = [name for name in found if name not in names]
    for name, value in found.items():
        inner = kind.openapi_types.get(names.get(name, ""), "")
        part = getattr(kserve, inner.removeprefix("list[").removesuffix("]"), None)
        if hasattr(part, "attribute_map"):
            items = value if isinstance(value, list) else [value]
            lost += [f"{name}.{one}" for item in items for one in unknown(part, item)]
    return lost
