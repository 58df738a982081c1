"""A gRPC client that costs next to nothing, as `serving_client` has one for REST: HTTP/2 frames made beforehand.

target = GrpcTarget(port=9002, model="helpdesk")

grpc.aio's own client takes as much processor time for a request as the server that is measured, on the same cores.
Frames: RFC 9113; header fields, none of them indexed: RFC 7541, section 6.2.2.
"""

import asyncio
import functools
from dataclasses import dataclass
from typing import Any

from serving_client import Ask

PATH = "/inference.GRPCInferenceService/ModelInfer"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
_HEAD_BYTES = 9
_ROOM = 2**31 - 2**16


@dataclass(frozen=True)
class GrpcTarget:
    """The Open Inference Protocol over gRPC; `model` is its name."""

    port: int
    model: str
    host: str = "127.0.0.1"

    async def connect(self) -> Ask:
        """A connection of its own for each client, as separate users would have."""
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, self.host, self.port)
        fields = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", self.host)]
        fields += [("content-type", "application/grpc"), ("te", "trailers")]
        head = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)
        message = functools.cache(self.message)

        async def ask(text: str) -> None:
            await connection.ask(head, message(text))

        return ask

    def message(self, text: str) -> bytes:
        """A request with one text, behind gRPC's length prefix."""
        from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

        tensor = ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(text.encode())
        content: bytes = ModelInferRequest(model_name=self.model, inputs=[tensor]).SerializeToString()
        return b"\0" + len(content).to_bytes(4, "big") + content


def _string(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


class _Connection(asyncio.Protocol):
    """One request at a time, each on the next stream; an answer is a message, whatever it says."""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._received, self._stream = transport, b"", -1
        self._answer: asyncio.Future[None] | None = None
        opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b"")
        transport.write(opening + _frame(WINDOW_UPDATE, 0, 0, _ROOM.to_bytes(4, "big")))

    def ask(self, head: bytes, message: bytes) -> asyncio.Future[None]:
        """Send, and promise that a message comes back."""
        self._stream, self._message_seen = self._stream + 2, False
        self._answer = asyncio.get_running_loop().create_future()
        headers = _frame(HEADERS, END_HEADERS, self._stream, head)
        self._transport.write(headers + _frame(DATA, END_STREAM, self._stream, message))
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= _HEAD_BYTES:
            end = _HEAD_BYTES + int.from_bytes(self._received[:3], "big")
            if len(self._received) < end:
                return
            kind, flags, content = self._received[3], self._received[4], self._received[_HEAD_BYTES:end]
            self._received = self._received[end:]
            self._take(kind, flags, content)

    def _take(self, kind: int, flags: int, content: bytes) -> None:
        if kind in (SETTINGS, PING) and not flags & ACK:
            self._transport.write(_frame(kind, ACK, 0, content if kind == PING else b""))
        elif kind == DATA:
            self._message_seen = self._message_seen or bool(content)
        # A refusal has a head only: its status, and no message.
        elif kind in (RST_STREAM, GOAWAY) or (kind == HEADERS and flags & END_STREAM):
            self._end(None if self._message_seen else ConnectionError(repr(content[:200])))

    def _end(self, error: Exception | None) -> None:
        if self._answer is None or self._answer.done():
            return
        if error is None:
            self._answer.set_result(None)
        else:
            self._answer.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("the connection was closed"))
