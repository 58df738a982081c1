"""Who may ask: when authentication is on, what keys and tokens are, and how long a verdict holds."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.errors import TokkaError, UsageError
from tokka.gateway.api_keys import KeyStore, own_headers
from tokka.gateway.authorizer import CACHE_SECONDS, Verdict, authorize
from tokka.gateway.bearer_tokens import Rejected, Unavailable, Verified, scopes_of
from tokka.gateway.exposure import needs_authentication, reachable
from tokka.params import parse_params


@pytest.mark.parametrize(
    ("host", "mode", "on"),
    [
        ("127.0.0.1", "auto", False),
        ("127.0.0.1", "on", True),
        ("127.0.0.1", "off", False),
        ("0.0.0.0", "auto", True),
        ("10.1.2.3", "auto", True),
        ("10.1.2.3", "on", True),
    ],
)
def test_authentication_is_on_as_soon_as_others_can_reach_the_gateway(host, mode, on):
    assert needs_authentication(host, mode, allowed=False) is on


def test_an_open_door_is_refused_unless_it_is_asked_for():
    with pytest.raises(UsageError, match="anybody could ask") as refused:
        needs_authentication("0.0.0.0", "off", allowed=False)
    assert "TOKKA_ALLOW_ANYBODY" in refused.value.hint
    assert needs_authentication("0.0.0.0", "off", allowed=True) is False
    assert (reachable("0.0.0.0"), reachable("10.1.2.3")) == ("127.0.0.1", "10.1.2.3")


def test_a_bare_on_or_off_of_yaml_is_understood():
    assert parse_params({"serving": {"authentication": False}}).serving.authentication == "off"
    assert parse_params({"serving": {"authentication": True}}).serving.authentication == "on"


@pytest.mark.parametrize(
    "jwt",
    [
        {"issuer": "x"},
        {"issuer": "x", "audience": "y", "jwks_url": "http://issuer.example/keys"},
        {"issuer": "x", "audience": "y", "jwks_url": "http://127.0.0.1.evil.example/keys"},
    ],
)
def test_an_issuer_is_whole_and_its_keys_come_over_https(jwt):
    with pytest.raises(UsageError, match="jwt"):
        parse_params({"serving": {"jwt": jwt}})


def test_a_key_is_kept_as_a_digest_only(tmp_path):
    store = KeyStore(tmp_path)
    secret, key = store.create("crm", ["predict", "feedback"])
    assert secret.encode() not in (tmp_path / "keys.db").read_bytes()
    assert stat.S_IMODE((tmp_path / "keys.db").stat().st_mode) == 0o600
    assert store.find(secret) == key
    assert store.find(secret[:-1]) is None
    assert [one.id for one in store.list()] == [key.id]


def test_a_revoked_key_says_so_and_an_unknown_one_cannot_be_revoked(tmp_path):
    store = KeyStore(tmp_path)
    secret, key = store.create("crm", ["predict"])
    store.revoke(key.id)
    assert authorize(secret, store, None, key.created) == Verdict(401, "the API key was revoked")
    with pytest.raises(TokkaError, match="no key"):
        store.revoke("nobody")


@pytest.mark.parametrize(("scopes", "days"), [([], 1), (["root"], 1), (["predict"], -1), (["predict"], float("nan"))])
def test_a_senseless_key_is_refused(tmp_path, scopes, days):
    with pytest.raises(UsageError):
        KeyStore(tmp_path).create("x", scopes, days=days)


def test_the_pipeline_s_own_key_changes_with_every_start_and_is_in_no_list(tmp_path):
    store, folder = KeyStore(tmp_path), tmp_path / "stack"
    folder.mkdir()
    store.renew_internal_key(folder)
    first = own_headers(tmp_path)["x-api-key"]
    store.renew_internal_key(folder)
    second = own_headers(tmp_path)["x-api-key"]
    assert store.find(first) is None
    assert authorize(second, store, None, 0.0).status == 200
    assert store.list() == []
    assert own_headers(tmp_path / "elsewhere") == {}


@given(left=st.floats(min_value=-1e6, max_value=1e6))
def test_a_verdict_never_outlives_the_credential(left):
    class Verifier:
        def verify(self, token):
            return Verified("jwt-1", ("predict",), 1e9 + left)

    verdict = authorize("token", None, Verifier(), 1e9)
    assert 0 <= verdict.seconds <= min(CACHE_SECONDS, max(left, 0)) + 1e-6


@pytest.mark.parametrize(("error", "status"), [(Rejected("no"), 401), (Unavailable("no keys", ""), 503)])
def test_what_cannot_be_verified_is_not_accepted(error, status):
    class Verifier:
        def verify(self, token):
            raise error

    assert authorize("token", None, Verifier(), 0.0).status == status


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "openid predict admin"}, ("predict", "admin")),
        ({"scp": ["feedback"]}, ("feedback",)),
        ({"scope": 7}, ()),
        ({"scope": "predictor"}, ()),
        ({}, ()),
    ],
)
def test_the_scopes_of_a_token_are_ours_alone(claims, scopes):
    assert scopes_of(claims) == scopes
