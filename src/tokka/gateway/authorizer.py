"""The authorizer: a process beside the gateway that says what a credential may do, and for how long that holds.

    python -P -m tokka.gateway.authorizer .tokka/stack/authority.sock

One line in, one line out, over a Unix socket that only its owner may use: the credential, then
`STATUS SECONDS CLIENT SCOPES REASON`. It ends with the daemon; without it the gateway accepts no new credential.
"""

import logging
import os
import signal
import socketserver
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokka import files
from tokka.gateway.api_keys import PREFIX, KeyStore
from tokka.gateway.bearer_tokens import KeySet, Rejected, TokenVerifier, Unavailable
from tokka.params import Params
from tokka.processes import json_log
from tokka.settings import Settings

logger = logging.getLogger("tokka.gateway")

# An answer is cached for so long at most: a key revoked elsewhere, or no longer published, is refused after it.
CACHE_SECONDS = 30.0
MAXIMUM_CREDENTIAL = 8193


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer until SIGTERM."""
    path = Path((sys.argv[1:] if arguments is None else arguments)[0]).resolve()
    json_log.start("authorizer", quoting=False)
    params = Params.model_validate(files.read_json(path.parent / "params.json"))
    store, verifier = KeyStore(Settings.from_environment().home), make_verifier(params)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Authorizer(path, lambda credential: authorize(credential, store, verifier, time.time())).serve_forever()
    return 0


def make_verifier(params: Params) -> TokenVerifier | None:
    """A verifier of the issuer in serving.jwt; None when there is none."""
    wanted = params.serving.jwt
    if wanted.issuer is None or wanted.audience is None or wanted.jwks_url is None:
        return None
    return TokenVerifier(wanted.issuer, wanted.audience, KeySet(wanted.jwks_url))


if __name__ == "__main__":
    sys.exit(main())
