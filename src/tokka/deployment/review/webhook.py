"""MLflow's webhooks on tags and aliases of versions: who is believed, and the small server that receives them.

MLflow signs `v1,base64(HMAC-SHA256(secret, id.time.body))` (its module mlflow/webhooks/delivery.py, after
https://www.standardwebhooks.com). What a webhook tells is not acted upon: it only says that it is time to look. So a
forged one could cause a look at most, and one that is lost is made up for by the next look.
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from tokka import files
from tokka.errors import TokkaError
from tokka.settings import Settings

NAME = "tokka-review"
EVENTS = ("model_version_tag.set", "model_version_tag.deleted", "model_version_alias.created")
HOST, PATH, PORT_OFFSET = "127.0.0.1", "/mlflow", 11
WINDOW_S = 300.0
MOST_BYTES = 65_536
# How long a sender may take for its request.
PATIENCE_S = 5.0
# How long MLflow's server may believe in an old list of webhooks.
CACHE_S = 5


class Unauthorised(Exception):
    """Not signed by our secret, or outside the window; nothing more is told."""


class Deliveries:
    """The ids of the window: each counts once."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def is_new(self, delivery: str, now: float) -> bool:
        """Note an id, and say whether it was not noted before; older ones could not pass the window any more."""
        self._seen = {one: when for one, when in self._seen.items() if now - when <= 2 * WINDOW_S}
        if delivery in self._seen:
            return False
        self._seen[delivery] = now
        return True


def authenticate(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> str:
    """The id of a delivery (headers by names in lower case); Unauthorised when it is none of ours, or not of now."""
    delivery, moment = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    signed = f"{delivery}.{moment}.".encode() + body
    wanted = b"v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
    given = headers.get("x-mlflow-signature", "").encode("utf-8", "replace")
    if not hmac.compare_digest(given, wanted) or not moment.isdecimal() or not delivery:
        raise Unauthorised
    if abs(now - int(moment)) > WINDOW_S:
        raise Unauthorised
    return delivery


def concerns(body: bytes, model: str) -> bool:
    """Whether an authentic body is of a version of this model; what is no JSON is of none."""
    try:
        return bool(json.loads(body)["data"]["name"] == model)
    except (ValueError, KeyError, TypeError):
        return False


def master_key(settings: Settings) -> str:
    """The key (32 bytes in URL-safe base64) by which MLflow encrypts webhooks' secrets at rest; made on first use."""
    path = settings.home / "keys" / "mlflow-webhook.key"
    with files.locked(settings.home / "locks" / "webhook-key.lock", 60.0):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write_bytes(path, base64.urlsafe_b64encode(secrets.token_bytes(32)), mode=0o600)
    return path.read_text(encoding="ascii").strip()


def secret(settings: Settings) -> str:
    """The secret that MLflow signs with."""
    return hmac.new(master_key(settings).encode(), b"mlflow webhook", hashlib.sha256).hexdigest()


def environment(settings: Settings) -> dict[str, str]:
    """What MLflow's own server here needs to call a receiver on this machine."""
    return {
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": master_key(settings),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": str(CACHE_S),
    }


def url(settings: Settings) -> str:
    """Where MLflow finds the receiver: here, or where TOKKA_REVIEW_URL says; empty where neither is known."""
    here = f"http://{HOST}:{settings.port + PORT_OFFSET}{PATH}" if settings.has_own_page else ""
    return settings.review_url or here


class Webhooks(Protocol):
    """What `keep` needs of a registry: registry/mlflow_client.py is one."""

    def has_webhook(self, name: str, url: str, events: Sequence[str]) -> bool:
        """Whether there is exactly one active entry of this name, with this address and these events."""

    def put_webhook(self, name: str, url: str, events: Sequence[str], secret: str) -> None:
        """Leave one such entry."""


class Receiver:
    """Listens on loopback from its making on, and calls `wake` for every authentic delivery of this model, once.

    TokkaError when the port is taken.
    """

    def __init__(self, port: int, secret: str, model: str, wake: Callable[[], object]) -> None:
        deliveries, lock = Deliveries(), threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE_S

            def do_POST(self) -> None:
                length = self.headers.get("content-length", "")
                if self.path != PATH or not length.isdecimal() or int(length) > MOST_BYTES:
                    return self._say(413 if self.path == PATH else 404)
                body = self.rfile.read(int(length))
                try:
                    named = {name.lower(): value for name, value in self.headers.items()}
                    delivery = authenticate(named, body, secret, time.time())
                except Unauthorised:
                    return self._say(401)
                with lock:
                    new = deliveries.is_new(delivery, time.time())
                if new and concerns(body, model):
                    wake()
                return self._say(204)

            def _say(self, status: int) -> None:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing: the header of a request holds what was signed."""

        try:
            self._server = ThreadingHTTPServer((HOST, port), Handler)
        except OSError as error:
            raise TokkaError(f"MLflow's webhooks cannot be received on port {port}: {error.strerror}") from None
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()


def keep(registry: Webhooks, settings: Settings) -> bool:
    """Make or mend MLflow's entry, so that there is one with our address, events and secret; whether it was changed.

    It is written anew only when something differs, or `TOKKA_HOME/stack/webhook.json` does not know it: a secret
    cannot be read back. Raises TokkaError when MLflow does not answer.
    """
    wanted = {"url": url(settings), "events": sorted(EVENTS), "secret": files.digest_json(secret(settings))}
    note = settings.home / "stack" / "webhook.json"
    known = files.read_json(note) if note.is_file() else None
    if known == wanted and registry.has_webhook(NAME, url(settings), EVENTS):
        return False
    registry.put_webhook(NAME, url(settings), EVENTS, secret(settings))
    note.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(note, wanted)
    return True
