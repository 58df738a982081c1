"""What stands before the body: as much as the gateway can keep to ask again; more is refused in a sentence."""

import json
import socket
import socketserver
import threading

import grpc
import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import PATIENCE_S, wait_for
from tokka.gateway.gateway import MAX_HEAD_BYTES, MAX_HEADERS, SMALL_BODY_BYTES, Gateway, Split


@pytest.fixture(scope="module")
def worker():
    """Breaks off in every first answer to a body, and answers when it comes again."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _BreaksOffOnce) as server:
        server.daemon_threads, server.seen = True, set()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, worker):
    folder = tmp_path_factory.mktemp("gateway")
    sizes = {"slots": 1, "max_body_bytes": 200_000}
    made = Gateway(folder, port=free_port(), log=folder / "log", **sizes)
    made.sync(Split(champion="1@a", champion_ports=(worker.server_address[1],)))
    yield made
    made.stop()


def test_the_longest_head_and_the_largest_small_body_are_asked_again(gateway, worker):
    lines = [f"name-{number}: {'v' * 190}" for number in range(80)]
    head = head_of("/predict", [*lines, f"content-length: {SMALL_BODY_BYTES}"])
    assert MAX_HEAD_BYTES - 500 < len(head) < MAX_HEAD_BYTES
    seen = len(worker.seen)
    status, tree = send(gateway.port, head + b"x" * SMALL_BODY_BYTES)
    assert (status, tree, len(worker.seen) - seen) == (200, {}, 1)


@pytest.mark.parametrize("length", [30_000, 60_000])
def test_a_longer_head_is_refused_by_its_length(gateway, length):
    for head in (head_of("/predict", [f"long: {'v' * length}"]), head_of(f"/predict?{'v' * length}", [])):
        status, tree = send(gateway.port, head)
        assert (status, tree["error"]) == (431, f"the headers are longer than {MAX_HEAD_BYTES} bytes")


@pytest.mark.parametrize("count", [MAX_HEADERS + 1, 4_000])
def test_more_headers_are_refused_by_their_number(gateway, count):
    status, tree = send(gateway.port, head_of("/predict", [f"n{number}: v" for number in range(count - 1)]))
    assert (status, tree["error"]) == (431, f"more than {MAX_HEADERS} headers")


def test_as_many_headers_as_may_be_are_taken(gateway):
    lines = [f"n{number}: v" for number in range(MAX_HEADERS - 2)]
    assert send(gateway.port, head_of("/predict", ["content-length: 2", *lines]) + b"98") == (200, {})


def test_a_longer_head_is_refused_over_grpc(gateway):
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port + 1}") as channel, pytest.raises(grpc.RpcError) as refused:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        ask(b"x", metadata=[("long", "v" * 17_000)], timeout=PATIENCE_S)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the headers are longer" in refused.value.details()


def test_a_chunk_that_says_no_size_is_answered_in_a_sentence(gateway):
    """Once its head has been read; what no head was read of is answered by HAProxy itself."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_S) as connection:
        before = requests(gateway)
        connection.sendall(head_of("/predict", ["transfer-encoding: chunked"]))
        wait_for(lambda: requests(gateway) > before, what="the head was not read")
        assert answer_of(connection, b"zz\r\n{}\r\n0\r\n\r\n") == (400, {"error": "not an HTTP request"})


def requests(gateway):
    """How many heads the gateway has read."""
    (line,) = [line for line in gateway.api.ask("show info").splitlines() if line.startswith("CumReq:")]
    return int(line.split()[1])


def head_of(path, lines):
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *lines, "", ""]).encode()


def send(port, content):
    """Status and JSON of the answer to some bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        return answer_of(connection, content)


def answer_of(connection, content):
    connection.sendall(content)
    head, _, body = connection.recv(4000).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


class _BreaksOffOnce(socketserver.StreamRequestHandler):
    def handle(self):
        lines = list(iter(self.rfile.readline, b"\r\n"))
        sizes = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length")]
        body = self.rfile.read(*sizes) if sizes else b""
        if body and body not in self.server.seen:
            self.server.seen.add(body)
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
