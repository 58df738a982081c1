"""Who may ask on a cluster: the real process as Envoy asks it, and the same answers as the local gateway's."""

import os
import shutil
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.gateway.credentials import AUDIENCE, ISSUER
from tests.gateway.test_authentication import CASES
from tokka.gateway.api_keys import KeyStore
from tokka.gateway.authorizer import Options, scope_of
from tokka.processes.stack_key import FILE, StackKey
from tokka.sections_serving import Jwt
from tokka.serving import service

INFER, GRPC = "/v2/models/helpdesk/infer", "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = KeyStore(tmp_path_factory.mktemp("operator"))
    made.create("first", ["predict"])
    return made


@pytest.fixture(scope="module")
def mounted(tmp_path_factory):
    """Where the kubelet puts the Secret."""
    return tmp_path_factory.mktemp("mounted")


@pytest.fixture(scope="module")
def authorizer(mounted, issuer):
    jwt = Jwt(issuer=ISSUER, audience=AUDIENCE, jwks_url=issuer.url)
    StackKey.of(mounted)
    options = Options(keys=mounted, jwt=jwt, host="127.0.0.1", port=free_port(), pod_key=mounted / FILE)
    command = [sys.executable, "-P", "-m", "tokka.gateway.authorizer", options.model_dump_json()]
    process = subprocess.Popen(command, env={**os.environ, "TOKKA_HOME": "/nowhere"}, stderr=subprocess.DEVNULL)
    with httpx.Client(base_url=f"http://127.0.0.1:{options.port}", **LOCAL) as client:
        wait_for(lambda: answers(client), what="the authorizer")
        yield client
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def answers(client):
    try:
        return client.get("/health").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.fixture
def ask(authorizer, store, mounted):
    """Ask with a credential, after the kubelet has brought the keys there are now."""

    def asked(credential=None, path=INFER, method="POST"):
        shutil.copy(store._path, mounted / "new")
        (mounted / "new").replace(mounted / "keys.db")
        (mounted / "keys.db").chmod(0o440)
        key = {} if credential is None else {"x-api-key": credential}
        bearer = {"authorization": f"Bearer {credential}"} if credential and credential.count(".") == 2 else key
        return authorizer.request(method, path, headers=bearer)

    return asked


@pytest.mark.parametrize("name", CASES)
def test_it_says_what_the_local_gateway_says(ask, store, issuer, name):
    make, (status, _) = CASES[name]
    found = ask(make(store, issuer))
    assert (found.status_code, "x-tokka-client" in found.headers) == (status, status == 200)
    if status != 200:
        assert found.json()["error"] and found.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/predict", INFER, GRPC, "/v2", "/predict?a=/feedback", "/jobs/1"])
def test_a_key_with_the_scope_is_let_through_and_named(ask, store, path):
    secret, key = store.create("shop", ["predict"])
    found = ask(secret, path)
    assert (found.status_code, found.content, found.headers["x-tokka-client"]) == (200, b"", key.id)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_good_token_is_let_through(ask, issuer, algorithm):
    found = ask(issuer.token(algorithm))
    assert found.status_code == 200 and found.headers["x-tokka-client"].startswith("jwt-")


@pytest.mark.parametrize(
    ("scopes", "path", "status"),
    [
        (["predict"], "/feedback", 403), (["feedback"], "/feedback", 200), (["feedback"], GRPC, 403),
        (["predict", "feedback"], "/metrics", 403), (["admin"], "/metrics", 200), (["predict"], "/admin/x", 403),
    ],
)  # fmt: skip
def test_each_path_needs_its_scope(ask, store, scopes, path, status):
    assert ask(store.create("one", scopes)[0], path).status_code == status


@pytest.mark.parametrize(
    ("scopes", "trusted"), [(["predict", "feedback"], False), (["feedback"], True), (["predict", "admin"], True)]
)
def test_pods_are_told_whose_feedback_it_is_and_whether_it_counts_in_full(ask, store, mounted, scopes, trusted):
    secret, key = store.create("one", scopes)
    said = ask(secret, "/feedback" if "feedback" in scopes else INFER).headers
    assert (said[service.CLIENT], said[service.TRUSTED]) == (key.id, str(int(trusted)))
    assert StackKey.of(mounted).vouches(said[service.VOUCHED], key.id, trusted, time.time())


def test_a_revoked_key_is_refused_as_soon_as_the_file_says_so(ask, store):
    secret, key = store.create("gone soon", ["predict"])
    assert ask(secret).status_code == 200
    store.revoke(key.id)
    assert (ask(secret).status_code, ask(secret).json()) == (401, {"error": "the API key was revoked"})


@pytest.mark.parametrize("path", ["/health", "/v2/health/ready", "/openapi.json"])
def test_health_and_description_are_open(ask, path):
    assert ask(None, path, "GET").status_code == 200


@pytest.mark.parametrize("path", ["/health/", "//health", "/predict/../health", "/HEALTH", "/health%00"])
def test_what_only_looks_like_an_open_path_is_not(path):
    assert scope_of(path) is not None


def test_without_a_file_of_keys_nobody_is_let_through(ask, authorizer, store, mounted):
    secret, _ = store.create("shop", ["predict"])
    assert ask(secret).status_code == 200
    (mounted / "keys.db").unlink()
    assert authorizer.post(INFER, headers={"x-api-key": secret}).status_code == 503


def test_a_body_is_not_taken_for_the_next_question(ask, authorizer, store):
    secret, _ = store.create("shop", ["predict"])
    assert ask(secret).status_code == 200
    body = f"POST {INFER} HTTP/1.1\r\nx-api-key: {secret}\r\n\r\n"
    assert authorizer.post(INFER, content=body).status_code == 401
    assert authorizer.post(INFER).status_code == 401


def test_it_answers_faster_than_a_model(ask, authorizer, store):
    """A request waits for it: printed, and far from what a gateway's time-out is."""
    secret, _ = store.create("shop", ["predict"])
    ask(secret)
    began, count = time.perf_counter(), 200
    for _ in range(count):
        assert authorizer.post(INFER, headers={"x-api-key": secret}).status_code == 200
    print(f"{(time.perf_counter() - began) / count * 1000:.2f} ms an answer")
