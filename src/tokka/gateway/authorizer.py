"""The authorizer: a process beside a gateway that says what a credential may do, and for how long that holds.

    python -P -m tokka.gateway.authorizer .tokka/stack/authority.sock
    python -P -m tokka.gateway.authorizer '{"keys": "/var/run/tokka/keys", "jwt": {"issuer": "https://…", …}}'

On a laptop: one line in, one line out, over a Unix socket that only its owner may use: the credential, then
`STATUS SECONDS CLIENT SCOPES REASON`. It ends with the daemon; without it the gateway accepts no new credential.
On a cluster: Envoy's `ext_authz` over HTTP, with a request's own method, path and credential and no body. 200 lets it
through, for the client that `x-tokka-client` names; with the secret of the pods it vouches for that to them. 401, 403
and 503 are the client's answer.
"""

import json
import logging
import os
import re
import signal
import socketserver
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from tokka import files
from tokka.gateway.api_keys import PREFIX, KeyStore
from tokka.gateway.bearer_tokens import KeySet, Rejected, TokenVerifier, Unavailable
from tokka.params import Params
from tokka.processes import json_log
from tokka.processes.stack_key import StackKey
from tokka.sections_serving import Jwt
from tokka.settings import Settings

logger = logging.getLogger("tokka.gateway")

# An answer is cached for so long at most: a key revoked elsewhere, or no longer published, is refused after it.
CACHE_SECONDS = 30.0
MAXIMUM_CREDENTIAL = 8193
CLIENT, TRUSTED, VOUCHED = "x-tokka-client", "x-tokka-trusted", "x-tokka-vouched"
OPEN = frozenset({"/health", "/v2/health/live", "/v2/health/ready", "/openapi.json"}) | {
    f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady")
}
_CREDENTIAL = re.compile(r"[\w\-.~+/=]+", re.ASCII)
IDLE_S = 60


@dataclass(frozen=True)
class Verdict:
    """200 with a client and scopes, 401, or 503; `seconds` says how long it holds."""

    status: int
    reason: str
    client: str = "-"
    scopes: tuple[str, ...] = ()
    seconds: float = 0.0

    def line(self) -> str:
        """As authorize.lua reads it."""
        return f"{self.status} {self.seconds:.3f} {self.client} {','.join(self.scopes) or '-'} {self.reason}\n"


def authorize(credential: str, store: KeyStore, verifier: TokenVerifier | None, now: float) -> Verdict:
    """What a credential may do; the verdict never holds longer than the credential."""
    if credential.startswith(PREFIX) or verifier is None:
        key = store.find(credential)
        problem = key.problem(now) if key else "the API key is unknown"
        if key is None or problem:
            return Verdict(401, problem)
        left = key.expires - now if key.expires else CACHE_SECONDS
        return Verdict(200, "accepted", key.id, key.scopes, min(CACHE_SECONDS, left))
    try:
        found = verifier.verify(credential)
    except Rejected as error:
        return Verdict(401, str(error))
    except Unavailable:
        return Verdict(503, "the issuer's keys cannot be fetched now")
    return Verdict(200, "accepted", found.client, found.scopes, max(0.0, min(CACHE_SECONDS, found.expires - now)))


class Authorizer(socketserver.ThreadingUnixStreamServer):
    """Answers on a Unix socket, one thread per question: waiting for an issuer delays no other."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, answer: Callable[[str], Verdict]) -> None:
        self.answer = answer
        path.unlink(missing_ok=True)
        # The path of a socket has 107 bytes at most, so that it is bound by its bare name.
        os.chdir(path.parent)
        before = os.umask(0o177)
        try:
            super().__init__(path.name, _Question)
        finally:
            os.umask(before)


class _Question(socketserver.StreamRequestHandler):
    server: Authorizer
    timeout = 5

    def handle(self) -> None:
        credential = self.rfile.readline(MAXIMUM_CREDENTIAL).decode("ascii", "replace").strip()
        try:
            verdict = self.server.answer(credential)
        except Exception as error:
            # Fails closed; the credential is not in the message.
            logger.error("a question failed: %s", type(error).__name__)
            verdict = Verdict(503, "who asks cannot be checked now")
        self.wfile.write(verdict.line().encode())


class Options(BaseModel):
    """What it is told: the folder with keys.db, which is only read, the issuer of tokens, and where it listens.

    pod_key: file with the secret that it shares with the pods; one that is not there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: Path
    jwt: Jwt = Field(default_factory=Jwt)
    pod_key: Path | None = None
    host: str = "0.0.0.0"
    port: int = 9000


class Refusal(NamedTuple):
    """What a client is told."""

    status: int
    reason: str


def scope_of(path: str) -> str | None:
    """The scope that a request for a path needs; None for what everybody may."""
    path = path.partition("?")[0]
    if path in OPEN:
        return None
    if path == "/metrics" or path.startswith("/admin"):
        return "admin"
    return "feedback" if path == "/feedback" else "predict"


def credential_of(headers: Mapping[str, str]) -> str:
    """The credential of a request's headers (lower-case names): a bearer token, or else an API key."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "").strip()


def decide(path: str, headers: Mapping[str, str], answer: Callable[[str], Verdict]) -> Verdict | Refusal:
    """Whether a request may go on, and for whom; `answer` says what a credential may do."""
    scope = scope_of(path)
    if scope is None:
        return Verdict(200, "open to everybody")
    if not (credential := credential_of(headers)):
        return Refusal(401, "send an API key or a bearer token")
    if len(credential) >= MAXIMUM_CREDENTIAL or not _CREDENTIAL.fullmatch(credential):
        return Refusal(401, "the credential is malformed")
    verdict = answer(credential)
    if verdict.status != 200:
        return Refusal(401 if verdict.status == 401 else 503, verdict.reason)
    if scope not in verdict.scopes:
        return Refusal(403, f"the credential lacks the scope {scope}")
    return verdict


class ExtAuthz(ThreadingHTTPServer):
    """Answers on a thread for each connection of the gateway."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, answer: Callable[[str], Verdict], key: StackKey | None = None) -> None:
        self.answer, self.key = answer, key
        super().__init__((host, port), _CheckedRequest)


class _CheckedRequest(BaseHTTPRequestHandler):
    server: ExtAuthz
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def _answer(self) -> None:
        # A body would be taken for the next question.
        self.close_connection = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            found = decide(self.path, headers, self.server.answer)
        except Exception as error:
            # Fails closed; the credential is not in the message.
            logger.error("a question failed: %s", type(error).__name__)
            found = Refusal(503, "who asks cannot be checked now")
        body = b"" if isinstance(found, Verdict) else json.dumps({"error": found.reason}).encode()
        self.send_response(found.status)
        for name, value in _headers(found, self.server.key).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # http.server looks methods up by these names.
    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line a request would fill the log."""


def is_trusted(scopes: Sequence[str]) -> bool:
    """Whether a caller's feedback counts in full: an administrator's, or of whoever may not ask for predictions."""
    return "admin" in scopes or ("feedback" in scopes and "predict" not in scopes)


def _headers(found: Verdict | Refusal, key: StackKey | None) -> dict[str, str]:
    if isinstance(found, Verdict):
        trusted = is_trusted(found.scopes)
        vouched = {VOUCHED: key.vouch(found.client, trusted, time.time())} if key else {}
        return {CLIENT: found.client, TRUSTED: str(int(trusted)), **vouched}
    challenge = {401: "Bearer realm=tokka", 403: "Bearer realm=tokka, error=insufficient_scope"}.get(found.status)
    return {"content-type": "application/json"} | ({"www-authenticate": challenge} if challenge else {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer until SIGTERM."""
    told = (sys.argv[1:] if arguments is None else arguments)[0]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if told.startswith("{"):
        options = Options.model_validate_json(told)
        json_log.start("authorizer", quoting=False)
        answer = _answerer(KeyStore(options.keys, read_only=True), options.jwt)
        key = options.pod_key if options.pod_key and options.pod_key.is_file() else None
        shared = StackKey.read(key, mounted=True) if key else None
        ExtAuthz(options.host, options.port, answer, shared).serve_forever()
    path = Path(told).resolve()
    json_log.start("authorizer", quoting=False)
    params = Params.model_validate(files.read_json(path.parent / "params.json"))
    Authorizer(path, _answerer(KeyStore(Settings.from_environment().home), params.serving.jwt)).serve_forever()
    return 0


def _answerer(store: KeyStore, jwt: Jwt) -> Callable[[str], Verdict]:
    verifier = make_verifier(jwt)
    return lambda credential: authorize(credential, store, verifier, time.time())


def make_verifier(wanted: Jwt) -> TokenVerifier | None:
    """A verifier of the issuer in serving.jwt; None when there is none."""
    if wanted.issuer is None or wanted.audience is None or wanted.jwks_url is None:
        return None
    return TokenVerifier(wanted.issuer, wanted.audience, KeySet(wanted.jwks_url))


if __name__ == "__main__":
    sys.exit(main())
