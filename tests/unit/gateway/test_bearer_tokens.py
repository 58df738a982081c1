"""The keys of an issuer: fetched when they are needed, within bounds, and without them nothing is accepted."""

import threading
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fixtures.waiting import LIMIT_S, wait_for
from tests.gateway.credentials import AUDIENCE, ISSUER, Issuer
from tokka.gateway import bearer_tokens
from tokka.gateway.bearer_tokens import KeySet, Rejected, TokenVerifier, Unavailable, scopes_of


@pytest.fixture
def issuer():
    made = Issuer()
    yield made
    made.close()


def verifier(issuer):
    return TokenVerifier(ISSUER, AUDIENCE, KeySet(issuer.url))


def is_accepted(asked, token):
    try:
        return bool(asked.verify(token))
    except Rejected:
        return False


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_good_token_says_who_asks_and_until_when(issuer, algorithm):
    expires = int(time.time()) + 100
    found = verifier(issuer).verify(issuer.token(algorithm, exp=expires))
    assert (found.scopes, found.expires, found.client.startswith("jwt-")) == (("predict",), expires, True)


def test_the_keys_are_fetched_once_and_again_for_an_unknown_one_after_a_moment(issuer, monkeypatch):
    monkeypatch.setattr(bearer_tokens, "MINIMUM_AGE_SECONDS", 0.05)
    asked = verifier(issuer)
    for _ in range(5):
        asked.verify(issuer.token())
    assert issuer.fetches == 1
    old = issuer.token()
    issuer.rotate("second")
    wait_for(lambda: is_accepted(asked, issuer.token()), what="the new keys")
    assert issuer.fetches == 2
    with pytest.raises(Rejected, match="unknown key"):
        asked.verify(old)


def test_unknown_keys_do_not_make_it_fetch_again_and_again(issuer):
    asked = verifier(issuer)
    issuer.name = "nobody"
    for _ in range(5):
        with pytest.raises(Rejected, match="unknown key"):
            asked.verify(issuer.token())
    assert issuer.fetches == 1


def test_without_the_issuer_nothing_can_be_said_and_it_is_asked_now_and_then(issuer):
    asked, token = verifier(issuer), issuer.token()
    issuer.published = "no keys"
    for _ in range(5):
        with pytest.raises(Unavailable):
            asked.verify(token)
    assert issuer.fetches == 1


def test_a_key_set_beyond_its_bound_is_none(issuer, monkeypatch):
    monkeypatch.setattr(bearer_tokens, "MAXIMUM_BYTES", 100)
    with pytest.raises(Unavailable):
        verifier(issuer).verify(issuer.token())


def test_a_short_rsa_key_is_refused(issuer):
    issuer.rsa = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(issuer.rsa.public_key(), as_dict=True)
    issuer.published = [{**public, "kid": f"{issuer.name}-rsa", "alg": "RS256"}]
    token = jwt.PyJWT({"enforce_minimum_key_length": False})
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        sent = token.encode({"exp": time.time() + 9}, issuer.rsa, "RS256", {"kid": f"{issuer.name}-rsa"})
    with pytest.raises(Rejected):
        verifier(issuer).verify(sent)


def test_a_known_key_does_not_wait_while_an_unknown_one_is_looked_for(issuer):
    asked = verifier(issuer)
    asked.verify(issuer.token())
    holding, done = threading.Event(), threading.Event()

    def hold():
        with asked._keys._client_lock:
            holding.set()
            done.wait(LIMIT_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(LIMIT_S)
    assert asked.verify(issuer.token()).scopes == ("predict",)
    done.set()
    holder.join()


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
