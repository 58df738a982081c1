"""Who may ask: real gateway, real authorizer, real workers, over REST and gRPC."""

import os
import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.gateway.credentials import AUDIENCE, ISSUER, Client
from tokka.gateway.api_keys import KeyStore, own_headers
from tokka.gateway.bearer_tokens import MINIMUM_AGE_SECONDS
from tokka.gateway.client import predict
from tokka.gateway.gateway import forget_grants
from tokka.gateway.replay import replay

REFUSED, FORBIDDEN, GOOD = (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (200, "OK")
RATE = 30


@pytest.fixture(scope="module")
def world(make_world, issuer):
    jwt = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": issuer.url}
    made = make_world(authentication="on", jwt=jwt, rate_per_second=RATE, workers=1)
    made.install("1")
    made.up()
    made.wait(lambda: made.ask(**own_headers(made.settings.home)).status_code == 200)
    return made


@pytest.fixture(scope="module")
def client(world):
    made = Client(world)
    yield made
    made.close()


@pytest.fixture(scope="module")
def store(world):
    return KeyStore(world.settings.home)


def expired_key(store):
    return store.create("old", ["predict"], days=1e-9)[0]


def revoked_key(store):
    secret, key = store.create("gone", ["predict"])
    store.revoke(key.id)
    return secret


CASES = {
    "nothing": (lambda store, issuer: None, REFUSED),
    "an empty credential": (lambda store, issuer: "", REFUSED),
    "an unknown API key": (lambda store, issuer: "tokka_00000000_" + "A" * 43, REFUSED),
    "an expired API key": (lambda store, issuer: expired_key(store), REFUSED),
    "a revoked API key": (lambda store, issuer: revoked_key(store), REFUSED),
    "an API key without the scope": (lambda store, issuer: store.create("f", ["feedback"])[0], FORBIDDEN),
    "no token at all": (lambda store, issuer: "not.a.token", REFUSED),
    "a token that has expired": (lambda store, issuer: issuer.token(exp=int(time.time()) - 60), REFUSED),
    "a token for another audience": (lambda store, issuer: issuer.token(aud="other"), REFUSED),
    "a token from another issuer": (lambda store, issuer: issuer.token(iss="https://other.example"), REFUSED),
    "a token from the future": (lambda store, issuer: issuer.token(iat=int(time.time()) + 600), REFUSED),
    **{
        f"a token without {claim}": (lambda store, issuer, claim=claim: issuer.token(without=claim), REFUSED)
        for claim in ("exp", "iat", "aud", "iss")
    },
    "a token with alg none": (lambda store, issuer: issuer.unsigned(), REFUSED),
    "a token signed HS256 with the public key": (lambda store, issuer: issuer.confused(), REFUSED),
    "a token signed RS512": (lambda store, issuer: issuer.token("RS512"), REFUSED),
    "a token signed with a key of its own": (
        lambda store, issuer: issuer.token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        REFUSED,
    ),
    "a token without the scope": (lambda store, issuer: issuer.token(scope="feedback profile"), FORBIDDEN),
    "a line break in the credential": (lambda store, issuer: "tokka_x\u2028y".encode().hex() + "%0a", REFUSED),
    "a good API key": (lambda store, issuer: store.create("crm", ["predict"])[0], GOOD),
    "a good token, RS256": (lambda store, issuer: issuer.token(), GOOD),
    "a good token, ES256": (lambda store, issuer: issuer.token("ES256"), GOOD),
}


@pytest.mark.parametrize("name", CASES)
def test_both_protocols_answer_alike(client, store, issuer, name):
    make, expected = CASES[name]
    credential = make(store, issuer)
    rest, call = client.rest(credential), client.grpc(credential)
    said = call.details() if expected != GOOD else ""
    print(f"\n| {name} | {rest.status_code} | {call.code().value[0]} {call.code().name} | {said} |", end="")
    assert (rest.status_code, call.code().name) == expected
    if expected != GOOD:
        assert rest.json()["error"] == call.details()
        assert rest.headers["www-authenticate"].startswith("Bearer")
        assert not credential or credential not in rest.text


def test_an_answer_over_grpc_says_who_gave_it_and_is_logged_like_any_other(world, client, store):
    secret, key = store.create("crm", ["predict"])
    forged = {"x_tokka_canary": "1", "x_tokka_share": "0.9", "x_tokka_champion": "9@ff", "x_tokka_replayed": "1"}
    call = client.grpc(secret, x_user_id="anna", **forged)
    head = {item.key: item.value for item in call.initial_metadata()}
    (prediction,) = next(one for one in call.answer.outputs if one.name == "prediction_id").contents.bytes_contents
    assert (head["x-tokka-version"], head["x-tokka-canary"]) == ("1", "0")
    assert head["x-request-id"] == prediction.decode()
    assert call.answer.parameters["canary"].bool_param is False

    def logged(kind):
        return [one for one in world.logged(kind) if one["prediction_id"] == prediction.decode()]

    world.wait(lambda: logged("prediction") and logged("request"))
    (request,), (answer,) = logged("request"), logged("prediction")
    assert (request["protocol"], request["route"], request["status"]) == ("grpc", "predict", 200)
    assert (request["client"], request["version"], request["canary"]) == (key.id, "1", False)
    # Only a client with the scope admin may say that its traffic is replayed.
    assert (answer["share"], answer["replayed"], answer["assigned"]) == (0.0, False, False)


def test_a_refusal_over_grpc_is_logged_with_the_status_it_would_have_over_rest(world, client, store):
    secret, _ = store.create("crm", ["predict"])
    since = time.time()
    assert client.grpc(secret, rows=300).code().name == "INVALID_ARGUMENT"
    assert client.grpc(None).code().name == "UNAUTHENTICATED"

    def statuses():
        return sorted(one["status"] for one in world.logged("request", since))

    world.wait(lambda: statuses() == [400, 401])


def test_scopes_are_kept_apart(client, store):
    feedback, _ = store.create("labels", ["feedback"])
    predicted = client.rest(store.create("asks", ["predict"])[0]).json()["prediction_id"]
    body = {"prediction_id": predicted, "label": "card"}
    assert client.rest(feedback, "/feedback", body).status_code == 200
    assert client.rest(feedback).status_code == 403
    predicting, _ = store.create("crm", ["predict"])
    refused = client.rest(predicting, "/feedback", body)
    assert refused.status_code == 403
    assert "scope=feedback" in refused.headers["www-authenticate"]
    assert client.rest(predicting, "/metrics", {}).status_code == 403


def test_health_and_the_description_need_no_credential(world, client):
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

    for path in ("/health", "/v2/health/live", "/v2/health/ready", "/openapi.json"):
        assert httpx.get(f"{world.url}{path}", **LOCAL).status_code == 200
    assert httpx.get(f"{world.url}/v2/models/helpdesk", **LOCAL).status_code == 401
    assert client.stub.ServerReady(messages.ServerReadyRequest(), timeout=PATIENCE_S).ready


def test_a_key_comes_in_either_header_and_does_not_reach_the_worker(world, store):
    secret, _ = store.create("crm", ["predict"])
    assert world.ask(**{"x-api-key": secret}).status_code == 200
    logs = (world.settings.home / "logs").glob("*.log")
    assert not [log for log in logs if secret in log.read_text(errors="replace")]


def test_a_revoked_key_is_refused_at_once(world, client, store):
    secret, key = store.create("leaver", ["predict"])
    assert client.statuses(secret) == GOOD
    store.revoke(key.id)
    assert forget_grants(world.settings.home / "stack")
    assert client.statuses(secret) == REFUSED


def test_an_expiring_key_is_not_outlived_by_what_is_kept_of_it(client, store):
    for seconds in (2, 8, 32):
        secret, key = store.create("short", ["predict"], days=seconds / 86_400)
        said = client.statuses(secret)
        # On a busy machine it may have expired before it was asked about.
        if time.time() < key.expires:
            break
    assert said == GOOD
    wait_for(lambda: time.time() > key.expires + 0.1)
    assert client.statuses(secret) == REFUSED


def test_rotated_keys_are_taken_without_a_restart_and_the_old_ones_are_not(world, client, issuer):
    old = issuer.token()
    assert client.statuses(old) == GOOD
    issuer.rotate("second")
    # The issuer is asked again, though not all the time.
    wait_for(lambda: client.statuses(issuer.token()) == GOOD)
    assert forget_grants(world.settings.home / "stack")
    assert client.statuses(old) == REFUSED


def test_unknown_key_ids_do_not_make_the_authorizer_hammer_the_issuer(client, issuer):
    before, began = issuer.fetches, time.monotonic()
    name = issuer.name
    issuer.name = "nobody"
    try:
        assert {client.rest(issuer.token()).status_code for _ in range(10)} == {401}
    finally:
        issuer.name = name
    assert issuer.fetches - before <= 2 + (time.monotonic() - began) / MINIMUM_AGE_SECONDS


def test_more_than_the_rate_is_refused_and_only_for_that_key(world, client, store):
    busy, calm = (store.create(name, ["predict"])[0] for name in ("busy", "calm"))
    with httpx.Client(base_url=world.url, **LOCAL, headers={"x-api-key": busy}) as fast, ThreadPoolExecutor(4) as pool:

        def burst():
            return list(pool.map(lambda number: fast.post("/predict", json={"text": "x"}), range(3 * RATE)))

        answers = wait_for(lambda: [answer for answer in burst() if answer.status_code != 200])
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(429, "1")}
        wait_for(lambda: burst() and client.grpc(busy).code().name == "RESOURCE_EXHAUSTED")
    assert client.statuses(calm) == GOOD


def test_the_pipeline_s_own_traffic_passes_and_is_not_counted(world):
    own = own_headers(world.settings.home)
    results = replay(
        [{"text": f"card {number}", "target": "card"} for number in range(2 * RATE)], world.url, headers=own
    )
    assert {result.status for result in results} == {200}
    assert predict(world.url, ["x"], headers=own)[0]["model_version"] == "1"
    mode = (world.settings.home / "stack" / "own.key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE((world.settings.home / "keys.db").stat().st_mode) == 0o600


def test_while_the_authorizer_is_away_nobody_new_gets_in_and_it_comes_back(world, client, store):
    known, fresh = (store.create(name, ["predict"])[0] for name in ("known", "fresh"))
    assert client.statuses(known) == GOOD
    authorizer, daemon = pid_of_authorizer(world), world.info().daemon
    # Nobody starts it again meanwhile.
    os.kill(daemon, signal.SIGSTOP)
    try:
        os.kill(authorizer, signal.SIGKILL)
        assert client.statuses(fresh) == (503, "UNAVAILABLE")
        assert client.rest(known).status_code == 200
    finally:
        os.kill(daemon, signal.SIGCONT)
    world.wait(lambda: client.statuses(fresh) == GOOD)


def pid_of_authorizer(world):
    def found():
        return [pid for pid in world.info().processes if b"tokka.gateway.authorizer" in _command(Path(f"/proc/{pid}"))]

    world.wait(found)
    return found()[0]


def _command(folder):
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""
