"""Bearer tokens of an OAuth2 issuer: JWTs, verified against the keys that the issuer publishes (JWKS)."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import jwt

from tokka.errors import TokkaError
from tokka.gateway.api_keys import SCOPES

ALGORITHMS = ("RS256", "ES256")
REQUIRED = ("exp", "iat", "aud", "iss")
LEEWAY_SECONDS = 5
# Published keys are fetched again after so long, and at once for an unknown key id, but not more often than that.
MAXIMUM_AGE_SECONDS = 300.0
MINIMUM_AGE_SECONDS = 2.0
FETCH_SECONDS = 3.0
MAXIMUM_BYTES = 1_000_000
_REASONS = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidIssuerError: "the token is from another issuer",
    jwt.InvalidSignatureError: "the token's signature is wrong",
}


class Rejected(Exception):
    """A token that is not accepted: why, in a few words that repeat nothing of it."""


class Unavailable(TokkaError):
    """The issuer's keys cannot be fetched now, so that no token can be verified."""


@dataclass(frozen=True)
class Verified:
    """The client (a digest of issuer and subject, no name), its scopes, and the expiry (seconds since 1970)."""

    client: str
    scopes: tuple[str, ...]
    expires: float


class KeySet(jwt.PyJWKClient):
    """An issuer's published keys; a fetch is bounded in bytes and in frequency, also when it fails."""

    def __init__(self, url: str) -> None:
        super().__init__(url, lifespan=MAXIMUM_AGE_SECONDS, cooldown_duration=MINIMUM_AGE_SECONDS)
        self._tried = float("-inf")

    def get_signing_key(self, kid: str) -> jwt.PyJWK:
        """The key with an id; a cached one without the lock that is held while the keys are fetched."""
        cached = self.jwk_set_cache.get() if self.jwk_set_cache else None
        signing = [key for key in cached.keys if key.public_key_use in ("sig", None)] if cached else []
        return self.match_kid(signing, kid) or super().get_signing_key(kid)

    def fetch_data(self) -> jwt.PyJWKSet:
        """The keys of the document, without redirects; any failure is a PyJWKClientConnectionError."""
        import httpx

        if time.monotonic() - self._tried < MINIMUM_AGE_SECONDS:
            raise jwt.PyJWKClientConnectionError("the last fetch was a moment ago")
        self._tried = self._last_successful_fetch = time.monotonic()
        body = bytearray()
        try:
            with httpx.stream("GET", self.uri, timeout=FETCH_SECONDS) as answer:
                answer.raise_for_status()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > MAXIMUM_BYTES:
                        raise ValueError("the key set is too large")
            return jwt.PyJWKSet.from_json(body.decode())
        except (httpx.HTTPError, jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise jwt.PyJWKClientConnectionError(type(error).__name__) from None


class TokenVerifier:
    """Verifies signature, algorithm, lifetime, issuer and audience."""

    def __init__(self, issuer: str, audience: str, keys: jwt.PyJWKClient) -> None:
        self._issuer, self._audience, self._keys = issuer, audience, keys

    def verify(self, token: str) -> Verified:
        """The client that a token stands for; raises Rejected, or Unavailable while no keys can be fetched."""
        key = self._key(token)
        try:
            claims = jwt.decode(
                token, key, algorithms=list(ALGORITHMS), audience=self._audience, issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(REQUIRED), "verify_iat": True, "enforce_minimum_key_length": True},
            )  # fmt: skip
        except jwt.MissingRequiredClaimError as error:
            raise Rejected(f"the token lacks the claim {error.claim}") from None
        except jwt.PyJWTError as error:
            known = (words for kind, words in _REASONS.items() if isinstance(error, kind))
            raise Rejected(next(known, "the token is not valid")) from None
        who = hashlib.sha256(f"{claims['iss']}|{claims.get('sub', '')}".encode()).hexdigest()[:16]
        return Verified(f"jwt-{who}", scopes_of(claims), float(claims["exp"]))

    def _key(self, token: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Rejected("the credential is neither an API key nor a token") from None
        # Checked before a key is looked up: a token must not choose the algorithm.
        if header.get("alg") not in ALGORITHMS:
            raise Rejected("the token's algorithm is not accepted")
        try:
            return self._keys.get_signing_key(header.get("kid", ""))
        except jwt.PyJWKClientConnectionError as error:
            raise Unavailable(f"{self._keys.uri} gives no keys: {error}", "see serving.jwt.jwks_url") from None
        except jwt.PyJWTError:
            raise Rejected("the token is signed with an unknown key") from None


def scopes_of(claims: Mapping[str, object]) -> tuple[str, ...]:
    """Our scopes among those of a token: `scope` (words in a string) or `scp` (a string or a list)."""
    found = claims.get("scope", claims.get("scp", ""))
    words = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
    return tuple(scope for scope in SCOPES if scope in words)
