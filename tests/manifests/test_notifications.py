"""Who tells people on a cluster: valid in each environment, confined, with what a person is told to make."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from tests.manifests.objects import NAMES, OVERLAYS, Object, build, of_kind
from tests.manifests.rules import RULES
from tests.manifests.test_overlays import GUIDE, KUBERNETES
from tokka.cli.main import app
from tokka.notifications import addresses
from tokka.params import parse_params
from tokka.settings import Settings

COMPONENT = Path("infra/kubernetes/components/notifications")
# What the guide has a person make; the database's Secret of the steps is in another namespace.
MADE = ("tokka-notify", "tokka-database")


@pytest.fixture(scope="module", params=NAMES)
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """An environment that takes the component."""
    folder = tmp_path_factory.mktemp(request.param)
    up = Path("../" * (len(folder.parts) - 1))
    overlay, component = (up / one.absolute().relative_to("/") for one in (OVERLAYS / request.param, COMPONENT))
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization"
    images = "images: [{name: tokka/server, newTag: dev}]"
    text = f"{head}\nresources: [{overlay}]\ncomponents: [{component}]\n{images}\n"
    (folder / "kustomization.yaml").write_text(text)
    return build(folder)


def test_an_environment_takes_it_and_keeps_every_rule(taken: list[Object]):
    assert [kubernetes_validate.validate(one, KUBERNETES, strict=True) for one in taken] == [KUBERNETES] * len(taken)
    found = [finding for rule in RULES for finding in rule(taken)]
    # Where PostgreSQL is outside, the policy for its pod selects nothing.
    known = ("postgresql-notify", *(f"tokka/{name}, which is nowhere" for name in MADE))
    assert [one for one in found if not any(word in one for word in known)] == []
    assert all(name in GUIDE.read_text() for name in MADE)


def test_it_starts_what_the_command_line_has_and_reads_what_the_secret_holds(taken: list[Object]):
    (deployment,) = [one for one in of_kind(taken, "Deployment") if one["metadata"]["name"] == "notify"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["tokka", "notify", "--loop"]
    told = CliRunner().invoke(app, ["notify", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    assert {"--loop", "--params"} <= set(told.split())
    names = {one["name"] for one in container["env"]}
    assert {addresses.URLS, "TOKKA_RECORD_URL", "TOKKA_TRACKING_URI"} <= names


def test_the_guides_own_receivers_are_understood(tmp_path: Path):
    text = GUIDE.read_text().split("cat > notify.yaml <<'EOF'\n")[1].split("\nEOF")[0]
    params = parse_params(yaml.safe_load(text))
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
    urls = {addresses.URLS: "team=mailto://127.0.0.1:25/?to=team@example.com"}
    known = addresses.read(settings, urls)
    assert list(known) == [one.name for one in params.notifications.receivers]
