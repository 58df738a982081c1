"""Each environment builds, is what Kubernetes' schemas allow, and keeps every rule."""

import json
from pathlib import Path

import kubernetes_validate
import pytest

from tests.manifests.objects import NAMES, OVERLAYS, Object, build, containers, of_kind, pods, title
from tests.manifests.references import PROVIDED, keys
from tests.manifests.rules import RULES, STRICT_RULES

KUBERNETES = "1.34"
# What must not be missing, whatever else is there.
ESSENTIAL = {
    "Namespace tokka",
    "Deployment tokka/mlflow",
    "Service tokka/mlflow",
    "CronJob tokka/retrain",
    "NetworkPolicy tokka/default-deny",
    "ServiceAccount kubeflow/tokka-pipeline",
    "Role kubeflow/tokka-pipeline",
    "ConfigMap kubeflow/tokka",
}
GUIDE = Path("docs/kubeflow.md")


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_builds_everything_that_is_needed(built: dict[str, list[Object]], name: str):
    assert {title(one) for one in built[name]} >= ESSENTIAL


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_is_valid(built: dict[str, list[Object]], name: str):
    checked = [kubernetes_validate.validate(one, KUBERNETES, strict=True) for one in built[name]]
    assert checked == [KUBERNETES] * len(built[name])


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_keeps_every_rule(built: dict[str, list[Object]], name: str):
    rules = RULES if name == "dev" else STRICT_RULES
    assert [finding for rule in rules for finding in rule(built[name])] == []


def test_nothing_is_made_in_a_namespace_of_somebody_else(built: dict[str, list[Object]]):
    spaces = {one["metadata"].get("namespace") for objects in built.values() for one in objects}
    assert spaces == {None, "tokka", "kubeflow"}


def test_nothing_runs_in_kubeflows_namespace_but_steps(built: dict[str, list[Object]]):
    assert [pod.owner for objects in built.values() for pod in pods(objects) if pod.namespace == "kubeflow"] == []


def test_production_is_staging_with_other_data(built: dict[str, list[Object]]):
    """The image's digest is the same once it is promoted; what else differs is listed here."""
    staging, production = (text(built[name], name) for name in ("staging", "production"))
    replicas = {"Deployment tokka/mlflow"}
    assert {name for name in staging if staging[name] != production.get(name)} == replicas
    assert production.keys() - staging.keys() == {"PodDisruptionBudget tokka/mlflow"}


@pytest.mark.parametrize("name", NAMES)
def test_every_container_of_ours_and_every_step_has_one_image(built: dict[str, list[Object]], name: str):
    found = [one for pod in pods(built[name]) for _, one in containers(pod) if one["image"].startswith("tokka/")]
    steps = [pair["value"] for one in found for pair in one.get("env", []) if pair["name"] == "TOKKA_IMAGE"]
    assert len(steps) == 1 and {one["image"] for one in found} == {*steps}


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_answers_to_the_name_by_which_steps_call_it(built: dict[str, list[Object]], name: str):
    data = {one["metadata"]["name"]: one["data"] for one in of_kind(built[name], "ConfigMap")}
    mlflow = next(data[found] for found in data if found.startswith("mlflow"))
    address = data["tokka"]["TOKKA_TRACKING_URI"].removeprefix("http://")
    assert address in mlflow["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


def test_what_a_person_must_provide_is_in_the_guide_and_dev_makes_the_rest(built: dict[str, list[Object]]):
    signing = {("Secret", "kubeflow", "tokka-signing"), ("ConfigMap", "kubeflow", "tokka-verify")}
    assert [name for _, _, name in PROVIDED if name not in GUIDE.read_text()] == []
    made = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in built["dev"]}
    assert PROVIDED.keys() - made == signing
    assert all(keys(built["dev"])[name] >= PROVIDED[name] for name in PROVIDED.keys() & made)


def test_a_file_that_no_schema_knows_is_refused(dev: list[Object]):
    dev[0]["spec"] = {"finalisers": []}
    with pytest.raises(kubernetes_validate.ValidationError, match="finalisers"):
        kubernetes_validate.validate(dev[0], KUBERNETES, strict=True)


def test_a_broken_kustomization_fails_with_its_message(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("resources: [nowhere.yaml]\n")
    with pytest.raises(AssertionError, match=r"nowhere\.yaml"):
        build(tmp_path)


def text(objects: list[Object], environment: str) -> dict[str, str]:
    """Each object as text, with the environment's name taken out."""
    return {title(one): json.dumps(one, sort_keys=True).replace(environment, "ENVIRONMENT") for one in objects}


def test_every_overlay_is_looked_at():
    assert sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml")) == sorted(NAMES)
