"""An issuer of tokens with a real key set on loopback, and the two ways to ask with a credential."""

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.fixtures.waiting import LOCAL, PATIENCE_S

ISSUER, AUDIENCE = "https://issuer.example", "tokka"


class Issuer:
    """Publishes one RSA and one EC key at a time; `rotate` replaces both."""

    def __init__(self) -> None:
        self.fetches = 0
        self.rotate("first")
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                body = json.dumps({"keys": issuer.published}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def rotate(self, name: str) -> None:
        self.name = name
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        rsa_jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key()))
        ec_jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.ec.public_key()))
        self.published = [
            {**rsa_jwk, "kid": f"{name}-rsa", "alg": "RS256"},
            {**ec_jwk, "kid": f"{name}-ec", "alg": "ES256"},
        ]

    def token(self, algorithm: str = "RS256", *, key: Any = None, without: str = "", **claims: Any) -> str:
        """A good token but for what is said."""
        kind = "ec" if algorithm == "ES256" else "rsa"
        now = int(time.time())
        good = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 300, "sub": "crm", "scope": "predict"}
        payload = {name: value for name, value in {**good, **claims}.items() if name != without}
        return jwt.encode(
            payload, key or getattr(self, kind), algorithm=algorithm, headers={"kid": f"{self.name}-{kind}"}
        )

    def unsigned(self) -> str:
        """A token that says `none`, with a good body."""
        return f"{_part({'alg': 'none', 'kid': f'{self.name}-rsa'})}.{self.token().split('.')[1]}."

    def confused(self) -> str:
        """HS256 with the published RSA key as the secret: the algorithm confusion of CVE-2016-5431."""
        public = self.rsa.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signed = f"{_part({'alg': 'HS256', 'kid': f'{self.name}-rsa'})}.{self.token().split('.')[1]}"
        return f"{signed}.{_text(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Client:
    """Asks one endpoint over REST or gRPC, with or without a credential."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._channel = grpc.insecure_channel(f"127.0.0.1:{world.settings.grpc_port}")
        self.stub = GRPCInferenceServiceStub(self._channel)

    def rest(self, credential: str | None = None, path: str = "/predict", body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {credential}".strip()} if credential is not None else {}
        tree = {"text": "where is my card?"} if body is None else body
        return httpx.post(f"{self._world.url}{path}", json=tree, headers=headers, **LOCAL)

    def grpc(self, credential: str | None = None, *, rows: int = 1, **metadata: str) -> Any:
        """The call when it went well, or the error; both have code, details and initial metadata."""
        text = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[rows])
        text.contents.bytes_contents.extend([b"where is my card?"] * rows)
        request = messages.ModelInferRequest(model_name="helpdesk", inputs=[text])
        more = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        if credential is not None:
            more.append(("authorization", f"Bearer {credential}".strip()))
        call = self.stub.ModelInfer.with_call
        try:
            answer, done = call(request, timeout=PATIENCE_S, metadata=more)
        except grpc.RpcError as error:
            return error
        done.answer = answer
        return done

    def statuses(self, credential: str | None) -> tuple[int, str]:
        """What both protocols say."""
        return self.rest(credential).status_code, self.grpc(credential).code().name

    def close(self) -> None:
        self._channel.close()


def _part(tree: dict[str, str]) -> str:
    return _text(json.dumps(tree).encode())


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
