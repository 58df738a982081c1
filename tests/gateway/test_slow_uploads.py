"""Clients that send a large body slowly, or never to its end: it costs them their answer, and nobody else."""

import contextlib
import json
import select
import socket
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import httpx
import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tokka.gateway.access_log import listen
from tokka.gateway.gateway import LARGE_PLACES as PLACES
from tokka.gateway.gateway import LARGE_PLACES_EACH as PLACES_EACH
from tokka.gateway.gateway import SOCKET, Gateway, Split
from tokka.gateway.runtime_api import RuntimeApi

LARGE = json.dumps({"text": "refund " * 8_500}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n"


def frame(kind, flags, stream, payload):
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name, value):
    """A header for HTTP/2, uncompressed."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


FIELDS = {
    b":method": b"POST", b":scheme": b"http", b":path": b"/inference.GRPCInferenceService/ModelInfer",
    b":authority": b"x", b"content-type": b"application/grpc", b"te": b"trailers",
}  # fmt: skip
# What HTTP/2's first window takes, of a message that says that it is longer.
UNFINISHED_CALL = b"".join([
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame(4, 0, 0, b""),
    frame(1, 4, 1, b"".join(literal(*field) for field in FIELDS.items())),
    frame(0, 0, 1, b"\0" + (900_000).to_bytes(4, "big") + bytes(16_379)),
    *[frame(0, 0, 1, bytes(16_384))] * 2, frame(0, 0, 1, bytes(16_383)),
])  # fmt: skip


@pytest.fixture(scope="module")
def worker():
    """Reads whatever comes, and answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def log(tmp_path):
    """Takes the gateway's lines."""
    with listen(tmp_path) as taker:
        taker.settimeout(PATIENCE_S)
        yield taker


@pytest.fixture
def gateway(tmp_path, worker, log):
    sizes = {"slots": 1, "max_body_bytes": 1_000_000}
    made = Gateway(tmp_path, port=free_port(), log=tmp_path / "log", **sizes)
    made.sync(Split(champion="1@a", champion_ports=(worker.server_port,)))
    yield made
    made.stop()


@contextlib.contextmanager
def stalled(api, port, clients, address="127.0.0.1", part=HEAD + b" " * 100_000):
    """So many that have sent a part of a large body, and send no more."""
    with contextlib.ExitStack() as opened:
        connections = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port), source_address=(address, 0)))
            for _ in range(clients)
        ]
        before = requests(api)
        for connection in connections:
            connection.sendall(part)
        wait_for(lambda: requests(api) >= before + clients, what="their heads were not read")
        yield connections


def requests(api):
    """How many heads the gateway has read."""
    (line,) = [line for line in api.ask("show info").splitlines() if line.startswith("CumReq:")]
    return int(line.split()[1])


def test_slow_clients_cost_themselves_only(world):
    api, statuses = RuntimeApi(world.settings.home / "stack", SOCKET), []
    with stalled(api, world.settings.port, 30) as slow:
        # Others are answered while the slow ones hold their places: none of these has been cut yet.
        while not statuses or (len(statuses) < 30 and not select.select(slow, [], [], 0)[0]):
            answer = httpx.post(f"{world.url}/predict", json={"texts": ["refund please " * 1_070] * 4}, **LOCAL)
            statuses.append(answer.status_code)
    print(f"\n{len(statuses)} asked while 30 others were slow")
    assert set(statuses) == {200}


def refused_beside(stall, attempt):
    """What an attempt beside stalled clients is refused with, and what it gives by another client then."""
    # On a busy machine the first of them may have been cut before the last has come: once more, all of them.
    for _ in range(20):
        with stall():
            for _ in range(5):
                if found := attempt():
                    return found
    raise AssertionError("nobody was refused")


def test_one_client_does_not_get_all_places(gateway):
    def attempt():
        refused = if_refused(ask(gateway.port, "127.0.0.2"))
        return refused and (refused, ask(gateway.port, "127.0.0.3").status_code)

    stall = partial(stalled, gateway.api, gateway.port, PLACES_EACH, "127.0.0.2")
    refused, another = refused_beside(stall, attempt)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "wait until one is answered" in refused.json()["error"]
    assert another == 200


def test_one_client_does_not_get_all_places_over_grpc(gateway):
    stall = partial(stalled, gateway.api, gateway.port + 1, PLACES_EACH, part=UNFINISHED_CALL)
    refused = refused_beside(stall, lambda: if_exhausted(call(gateway.port + 1)))
    assert "wait until one is answered" in refused.details()
    assert dict(refused.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"


def test_when_all_places_are_taken_it_is_said_until_the_slow_are_cut(gateway, log):
    """And it is no failure of a revision: the log has a client's status."""
    connection, _ = log.accept()
    lines = connection.makefile()
    # On a busy machine the first may have been cut before the last has come.
    for _ in range(10):
        with contextlib.ExitStack() as opened:
            slow, calls = take_all_places(gateway, opened)
            refused, ended = ask(gateway.port), call(gateway.port + 1)
            if refused.status_code == 200 or ended.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                continue
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert "all places for large bodies are taken" in refused.json()["error"]
            assert "x-tokka-full" not in refused.headers
            wait_for(lambda: json.loads(lines.readline())["status"] == 429)
            assert "all places for large bodies are taken" in ended.details()
            # Cut after ten seconds, they have no place any more, though their connections stay.
            assert {connection.recv(1000)[:12] for connection in slow} == {b"HTTP/1.1 408"}
            assert all(b"did not arrive in time" in late_answer(connection) for connection in calls)
            assert ask(gateway.port).status_code == 200
            assert call(gateway.port + 1).code() == grpc.StatusCode.UNAVAILABLE
            return
    raise AssertionError("the places were never all taken at once")


def take_all_places(gateway, opened):
    """Half of them over HTTP/1 and half over gRPC, from two addresses each."""
    half, api, port = PLACES // 2, gateway.api, gateway.port
    slow = [opened.enter_context(stalled(api, port, half, f"127.0.0.{last}")) for last in (2, 3)]
    calls = [
        opened.enter_context(stalled(api, port + 1, half, f"127.0.0.{last}", part=UNFINISHED_CALL)) for last in (4, 5)
    ]
    return [*slow[0], *slow[1]], [*calls[0], *calls[1]]


def if_refused(answer):
    return answer if answer.status_code != 200 else None


def if_exhausted(ended):
    return ended if ended.code() == grpc.StatusCode.RESOURCE_EXHAUSTED else None


def late_answer(connection):
    """What comes over HTTP/2, up to its sentence or its end."""
    connection.settimeout(PATIENCE_S)
    found = b""
    while b"in time" not in found and (more := connection.recv(4000)):
        found += more
    return found


def call(port):
    """How a large call ends; no worker speaks gRPC here."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as ended:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(LARGE, timeout=PATIENCE_S)
    return ended.value


def ask(port, address="127.0.0.1"):
    """A body that the gateway takes for a large one, though it is whole at once."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), **LOCAL) as client:
        return client.post(f"http://127.0.0.1:{port}/predict", content=LARGE)


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass
