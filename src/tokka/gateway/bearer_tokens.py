"""Bearer tokens of an OAuth2 issuer: JWTs, verified against the keys that the issuer publishes (JWKS).

verifier = TokenVerifier(issuer, audience, KeySet("https://issuer/jwks.json").find)
verifier.verify(token)                # Verified(client="jwt-…", scopes=("predict",), expires=…)
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from tokka.errors import TokkaError
from tokka.gateway.api_keys import SCOPES

ALGORITHMS = ("RS256", "ES256")
REQUIRED = ("exp", "iat", "aud", "iss")
LEEWAY_SECONDS = 5
MINIMUM_RSA_BITS = 2048
# Published keys are fetched again after so long, and at once for an unknown key id, but not more often than that.
MAXIMUM_AGE_SECONDS = 300.0
MINIMUM_AGE_SECONDS = 2.0
FETCH_SECONDS = 3.0
MAXIMUM_BYTES = 1_000_000


class Rejected(Exception):
    """A token that is not accepted: why, in a few words that repeat nothing of it."""


class Unavailable(TokkaError):
    """The issuer's keys cannot be had now: nothing can be said about a token."""


@dataclass(frozen=True)
class Verified:
    """Who asks (a digest of issuer and subject, no name), what for, and until when (seconds since 1970)."""

    client: str
    scopes: tuple[str, ...]
    expires: float


class KeySet:
    """An issuer's published keys, cached.

    Args:
        url: of the JWKS document.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = threading.Lock()

    def find(self, name: str) -> jwt.PyJWK | None:
        """The key with an id; None when the issuer publishes none.

        Raises:
            Unavailable: the keys are not known, or too old, and cannot be fetched.
        """
        # Whoever has a known key does not wait for the lock that is held while another's is fetched.
        found = self._keys.get(name)
        if found is not None and not self._is_old():
            return found
        with self._lock:
            if time.monotonic() - self._tried > MINIMUM_AGE_SECONDS:
                self._tried = time.monotonic()
                self._keys, self._fetched = fetch(self._url), time.monotonic()
            elif self._is_old():
                raise Unavailable(f"{self._url} gave no keys a moment ago", "see serving.jwt.jwks_url")
            return self._keys.get(name)

    def _is_old(self) -> bool:
        return time.monotonic() - self._fetched > MAXIMUM_AGE_SECONDS


def fetch(url: str) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JWKS document, by id; redirects are not followed.

    Raises:
        Unavailable: it cannot be fetched, or is none.
    """
    import httpx

    try:
        with httpx.stream("GET", url, timeout=FETCH_SECONDS) as answer:
            answer.raise_for_status()
            body = bytearray()
            for part in answer.iter_bytes():
                body += part
                if len(body) > MAXIMUM_BYTES:
                    raise ValueError("too large")
        keys = jwt.PyJWKSet.from_json(body.decode()).keys
    except (httpx.HTTPError, jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise Unavailable(f"{url} gives no keys: {type(error).__name__}", "see serving.jwt.jwks_url") from None
    return {key.key_id: key for key in keys if key.key_id and _usable(key)}


class TokenVerifier:
    """Signature, algorithm, lifetime, issuer and audience; all of them, always.

    Args:
        find: the key with an id, or None.
    """

    def __init__(self, issuer: str, audience: str, find: Callable[[str], jwt.PyJWK | None]) -> None:
        self._issuer, self._audience, self._find = issuer, audience, find

    def verify(self, token: str) -> Verified:
        """Who sent a token.

        Raises:
            Rejected: it is not accepted.
            Unavailable: nothing can be said now.
        """
        key = self._key(token)
        try:
            claims = jwt.decode(
                token, key, algorithms=list(ALGORITHMS), audience=self._audience, issuer=self._issuer,
                leeway=LEEWAY_SECONDS, options={"require": list(REQUIRED), "verify_iat": True},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise Rejected(_reason(error)) from None
        who = hashlib.sha256(f"{claims['iss']}|{claims.get('sub', '')}".encode()).hexdigest()[:16]
        return Verified(f"jwt-{who}", scopes_of(claims), float(claims["exp"]))

    def _key(self, token: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Rejected("the credential is neither an API key nor a token") from None
        # Before anything is looked up: no algorithm of the token's choice.
        if header.get("alg") not in ALGORITHMS:
            raise Rejected("the token's algorithm is not accepted")
        name = header.get("kid")
        key = self._find(name) if isinstance(name, str) else None
        if key is None or key.algorithm_name != header["alg"]:
            raise Rejected("the token is signed with an unknown key")
        return key


def scopes_of(claims: dict[str, Any]) -> tuple[str, ...]:
    """Our scopes among those of a token: `scope` (words in a string) or `scp` (a string or a list)."""
    found = claims.get("scope", claims.get("scp", ""))
    words = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
    return tuple(scope for scope in SCOPES if scope in words)


def _usable(key: jwt.PyJWK) -> bool:
    long_enough = key.key_type != "RSA" or getattr(key.key, "key_size", 0) >= MINIMUM_RSA_BITS
    return key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig") and long_enough


def _reason(error: jwt.PyJWTError) -> str:
    known = {
        jwt.ExpiredSignatureError: "the token has expired",
        jwt.ImmatureSignatureError: "the token is not valid yet",
        jwt.InvalidAudienceError: "the token is for another audience",
        jwt.InvalidIssuerError: "the token is from another issuer",
        jwt.InvalidSignatureError: "the token's signature is wrong",
    }
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token lacks the claim {error.claim}"
    return next((words for kind, words in known.items() if isinstance(error, kind)), "the token is not valid")
