"""What pipeline.yaml gives the steps is what the environments make, or what a person is told to make."""

from pathlib import Path

import pytest
import yaml

from tests.manifests.objects import NAMES, Object, of_kind, title
from tests.manifests.references import PROVIDED, keys, of_steps

FILE = Path("infra/kubernetes/pipeline.yaml")
# Amazon's own S3 needs none.
SPARED = {"AWS_ENDPOINT_URL"}


@pytest.fixture(scope="module")
def tree() -> Object:
    found: Object = yaml.safe_load(FILE.read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_name_leads_somewhere(built: dict[str, list[Object]], tree: Object, name: str):
    known, asked = keys(built[name]), [one for _, one in of_steps(tree)]
    assert asked and [one for one in asked if (one.kind, one.namespace, one.name) not in known] == []
    missing = {one.key for one in asked if one.key and one.key not in known[one.kind, one.namespace, one.name]}
    assert missing <= (set() if name == "dev" else SPARED)


def test_nothing_is_provided_that_no_step_asks_for(tree: Object):
    asked = {(one.kind, one.namespace, one.name) for _, one in of_steps(tree)}
    assert {one for one in PROVIDED if one[1] == "kubeflow"} <= asked


def test_the_private_key_is_given_to_register_alone(tree: Object):
    assert {part for part, one in of_steps(tree) if one.name == "tokka-signing"} == {"register"}


@pytest.mark.parametrize("name", NAMES)
def test_keys_lie_where_the_steps_look_for_them(built: dict[str, list[Object]], tree: Object, name: str):
    steps = next(one["data"] for one in of_kind(built[name], "ConfigMap") if title(one) == "ConfigMap kubeflow/tokka")
    volumes = [tree["every_step"]["volumes"], tree["steps"]["register"]["volumes"]]
    folders = {source.get("secret") or source.get("config_map"): source["path"] for part in volumes for source in part}
    assert steps["TOKKA_VERIFY_KEY"] == f"{folders['tokka-verify']}/signing.pub"
    assert steps["TOKKA_SIGNING_KEY"] == f"{folders['tokka-signing']}/signing.key"


def test_runs_have_the_account_with_the_rights(built: dict[str, list[Object]], tree: Object):
    account = f"ServiceAccount kubeflow/{tree['service_account']}"
    assert all(account in {title(one) for one in objects} for objects in built.values())
