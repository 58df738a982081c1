"""One worker by itself: a real process with both doors, no gateway before it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.serving.world import NAME
from tokka.serving.process import SINGLE_THREAD


class LoneWorker:
    """Ready once made; `log` is what it writes to standard error."""

    def __init__(self, model: Path, folder: Path, *options: str) -> None:
        self.log = folder / "worker.log"
        command = [sys.executable, "-P", "-m", "tokka.serving.server", "--model-dir", str(model), "--name", NAME]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--version", "1", "--grpc", *options],
                stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **SINGLE_THREAD},
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.facts = json.loads(line)
        self.url = f"http://127.0.0.1:{self.facts['port']}"
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=20)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.facts['grpc_port']}")
        self.stub = GRPCInferenceServiceStub(self._channel)

    def call(self, method: str, content: bytes) -> grpc.StatusCode:
        """The status of a gRPC call whose message is these very bytes."""
        path = f"/inference.GRPCInferenceService/{method}"
        try:
            self._channel.unary_unary(path)(content, timeout=20)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def close(self) -> None:
        self.client.close()
        self._channel.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
