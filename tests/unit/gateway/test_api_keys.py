"""API keys: kept as digests, revoked, and the pipeline's own one."""

import stat

import pytest

from tokka.errors import TokkaError, UsageError
from tokka.gateway.api_keys import KeyStore, own_headers
from tokka.gateway.authorizer import Verdict, authorize


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
