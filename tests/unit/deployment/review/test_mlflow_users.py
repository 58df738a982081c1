"""MLflow's own server with basic authentication: whoever it lets in approves by name, and nobody else does."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.unit.deployment.review.test_acting import _answers, watch
from tests.unit.deployment.review.test_versions import Case
from tests.unit.registry.conftest import make_settings
from tokka.deployment.review import signatures, versions, webhook
from tokka.deployment.review.mlflow_users import Asked, asked
from tokka.deployment.review.signatures import MLFLOW, SERVER, Decided
from tokka.errors import Refused
from tokka.registry import entities
from tokka.registry.mlflow_client import Registry

WORD = "a long enough password"
OPERATOR = ("tokka-operator", WORD)
APPROVERS = {"ana": MLFLOW, "dora": MLFLOW}
CONFIG = """[mlflow]
default_permission = READ
database_uri = {users}
admin_username = {OPERATOR[0]}
admin_password = {WORD}
auth_cache_ttl_seconds = 60
authorization_function = tokka.deployment.review.mlflow_users:authenticate
"""


class Guarded:
    """MLflow behind `mlflow server --app-name basic-auth`, whose administrator is Tokka's own account."""

    def __init__(self, settings, address):
        self.settings, self.address = settings, address
        for name in ("ana", "ben", "carl", "dora"):
            self.call("/api/2.0/mlflow/users/create", OPERATOR, username=name, password=WORD)

    def call(self, path, by, status=200, **said):
        found = httpx.post(f"{self.address}{path}", json=said, auth=by, **LOCAL)
        assert found.status_code == status, found.text
        return found

    def tag(self, case, by, value, status=200, key=entities.REVIEW, version="1"):
        """As MLflow's page does it."""
        path = "/ajax-api/2.0/mlflow/model-versions/set-tag"
        self.call(path, by, status, name=case.name, version=version, key=key, value=value)

    def make(self, folder, name):
        """A version that waits, which ana, carl and dora may edit, and ben may read."""
        case = Case(self.settings, folder, name)
        for user in ("ana", "carl", "dora"):
            grant = {"resource_type": "registered_model", "resource_id": name, "permission": "EDIT"}
            self.call("/api/3.0/mlflow/users/permissions/grant", OPERATOR, username=user, **grant)
        return case


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def guarded(request, tmp_path_factory):
    home, port, patched = tmp_path_factory.mktemp("guarded"), free_port(), pytest.MonkeyPatch()
    address, databases = (
        f"http://127.0.0.1:{port + 10}",
        [f"sqlite:///{home}/{name}.db" for name in ("mlflow", "users")],
    )
    if request.param == "postgresql":
        databases = [request.getfixturevalue("postgres").database() for _ in databases]
    settings = make_settings(
        home, MLFLOW_TRACKING_URI=address, TOKKA_PORT=str(port),
        TOKKA_REVIEW_URL=f"http://127.0.0.1:{port + webhook.PORT_OFFSET}{webhook.PATH}",
    )  # fmt: skip
    (home / "auth.ini").write_text(CONFIG.format(users=databases[1], OPERATOR=OPERATOR, WORD=WORD))
    own = {**os.environ, **settings.environment(), **webhook.environment(settings), "MLFLOW_TRACKING_URI": databases[0],
           "MLFLOW_AUTH_CONFIG_PATH": str(home / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "s" * 32,
           "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # fmt: skip
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1",
               "--port", str(port + 10), "--backend-store-uri", databases[0],
               "--artifacts-destination", str(home / "artifacts")]  # fmt: skip
    with (home / "mlflow.log").open("wb") as log:
        child = subprocess.Popen(command, env=own, stdout=log, stderr=log, cwd=home, start_new_session=True)
    patched.setenv("MLFLOW_TRACKING_USERNAME", OPERATOR[0])
    patched.setenv("MLFLOW_TRACKING_PASSWORD", WORD)
    try:
        wait_for(lambda: _answers(address), what=lambda: (home / "mlflow.log").read_text()[-2000:])
        yield Guarded(settings, address)
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(PATIENCE_S)
        patched.undo()


def test_whom_mlflow_knows_approves_by_name_and_it_is_rolled_out(guarded, tmp_path, capsys):
    case, started = guarded.make(tmp_path, "verified"), []
    reviews = watch(case, started, approvers=APPROVERS)
    try:
        guarded.tag(case, ("ana", WORD), "I looked at the slices", key=entities.REVIEW_COMMENT)
        guarded.tag(case, ("ana", WORD), "approved")
        began = time.monotonic()
        wait_for(lambda: reviews.look() or reviews.look(late=True) or started)
        seconds = time.monotonic() - began
    finally:
        reviews.close()
    assert started == [Registry(guarded.settings, case.name).version("1").run_id]
    assert case.standing(approvers=APPROVERS).reason == "approved by ana"
    (trail,) = versions.show_version("1", case.params(approvers=APPROVERS), case.settings)["reviews"]
    assert (trail["reviewer"], trail["in_mlflow"], trail["by_tag"]) == ("ana", True, False)
    assert trail["comment"] == "I looked at the slices"
    with capsys.disabled():
        print(f"\nfrom a verified user's tag to the start of the rollout: {seconds:.2f} s")


def test_a_strangers_tag_is_not_taken_or_stays_a_request(guarded, tmp_path):
    case = guarded.make(tmp_path, "strangers")
    guarded.tag(case, None, "approved", status=401)
    guarded.tag(case, ("ana", "another password"), "approved", status=401)
    guarded.tag(case, ("ben", WORD), "approved", status=403)
    assert case.standing(approvers=APPROVERS).verdict == "waiting"
    guarded.tag(case, ("carl", WORD), "approved")
    guarded.tag(case, ("carl", WORD), "ana", key=entities.REVIEWER)
    assert case.standing(approvers=APPROVERS).verdict == "waiting"
    (line,) = versions.list_versions(case.params(approvers=APPROVERS), case.settings)
    assert line["request"].startswith("approved by tag, which is a request")


def test_what_an_approver_has_decided_cannot_be_carried_over_or_forged(guarded, tmp_path):
    case = guarded.make(tmp_path, "forged")
    guarded.tag(case, ("ana", WORD), "approved")
    assert case.standing(approvers=APPROVERS).verdict == "approved"
    signed = Registry(case.settings, case.name).version("1").tags[entities.DECIDED_BY]
    case.register("k2")
    guarded.tag(case, ("carl", WORD), signed, key=entities.DECIDED_BY, version="2")
    assert case.standing("2", approvers=APPROVERS).verdict == "waiting"
    digest = Registry(case.settings, case.name).version("2").digest
    mine = Decided(model=case.name, version="2", model_digest=digest, verdict="approved", user="ana", time=1.0)
    forged = signatures.sign_decided(mine, make_settings(tmp_path / "carl"))
    guarded.tag(case, ("carl", WORD), forged, key=entities.DECIDED_BY, version="2")
    assert case.standing("2", approvers=APPROVERS).verdict == "waiting"
    with pytest.raises(Refused, match=f"signature of {SERVER}"):
        signatures.read_decided(forged, signatures.approvers(APPROVERS, case.settings))


def test_the_alias_approves_as_well_four_eyes_hold_and_a_refusal_is_for_ever(guarded, tmp_path):
    case = guarded.make(tmp_path, "alias")
    rule = {"approvers": APPROVERS, "four_eyes": True}
    path = "/ajax-api/2.0/mlflow/registered-models/alias"
    guarded.call(path, ("ana", WORD), name=case.name, alias="approved", version="1")
    assert "the author of a run does not approve it" in case.standing(**rule).reason
    guarded.call(path, ("dora", WORD), name=case.name, alias="approved", version="1")
    assert case.standing(**rule).reason == "approved by dora"
    guarded.tag(case, ("ana", WORD), "confuses refunds", key=entities.REVIEW_COMMENT)
    guarded.tag(case, ("ana", WORD), "refused")
    found = case.standing(**rule)
    assert (found.verdict, found.reason) == ("refused", "ana refused this model: confuses refunds")
    guarded.tag(case, ("dora", WORD), "approved")
    assert case.standing(**rule).verdict == "refused"


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        ("/api/2.0/mlflow/model-versions/set-tag", {"key": "tokka.review", "value": " Approved "}, "approved"),
        ("/ajax-api/2.0/mlflow/model-versions/set-tag", {"key": "tokka.review", "value": "refused"}, "refused"),
        ("/api/2.0/mlflow/model-versions/set-tag", {"key": "tokka.review", "value": "waiting"}, None),
        ("/api/2.0/mlflow/model-versions/set-tag", {"key": "tokka.gate", "value": "approved"}, None),
        ("/api/2.0/mlflow/registered-models/alias", {"alias": "approved"}, "approved"),
        ("/api/2.0/mlflow/registered-models/alias", {"alias": "champion"}, None),
        ("/api/2.0/mlflow/runs/set-tag", {"key": "tokka.review", "value": "approved"}, None),
    ],
)
def test_what_a_request_decides(path, body, found):
    decision = asked(path, {"name": "desk", "version": "3", **body})
    assert decision == (Asked("desk", "3", found) if found else None)
    for other in (None, [], "approved", 1):
        assert asked(path, other) is None
