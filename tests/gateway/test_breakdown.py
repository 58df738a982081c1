"""Workers that are killed or hang while they are asked, with small bodies and large ones."""

import json
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import httpx
import psutil
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.fixtures.world import NAME
from tokka.gateway.gateway import Gateway, Split

SMALL = ["refund please"]
# Large on the wire and little work: what is tested is the way there, and no queue in a busy worker.
LARGE = [" " * 15_000 + "refund please"] * 20


class Asking:
    """The same request in the background, again and again over both protocols, until the block ends."""

    def __init__(self, world, texts, threads=2):
        self.failures, self.answered, self._ended = [], {"rest": 0, "grpc": 0}, threading.Event()
        self._world, self._texts = world, texts
        self._threads = [threading.Thread(target=way) for way in (self._rest, self._grpc) for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count=3):
        """Until so many more answers have come over either protocol."""
        wanted = {way: number + count for way, number in self.answered.items()}
        wait_for(lambda: self.failures or all(self.answered[way] >= wanted[way] for way in wanted))

    def _rest(self):
        with httpx.Client(base_url=self._world.url, **LOCAL) as client:
            while not self._ended.is_set():
                answer = client.post("/predict", json={"texts": self._texts})
                if answer.status_code == 200:
                    self.answered["rest"] += 1
                else:
                    self.failures.append(f"{answer.status_code}: {answer.text}")

    def _grpc(self):
        column = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(self._texts)])
        column.contents.bytes_contents.extend(text.encode() for text in self._texts)
        request = messages.ModelInferRequest(model_name=NAME, inputs=[column])
        with grpc.insecure_channel(f"127.0.0.1:{self._world.settings.grpc_port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not self._ended.is_set():
                try:
                    stub.ModelInfer(request, timeout=PATIENCE_S)
                    self.answered["grpc"] += 1
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code()}: {error.details()}")


def test_a_hung_worker_costs_no_request_and_is_replaced(world):
    """What it had is asked again when it is killed; who comes meanwhile goes to the other one."""
    with Asking(world, SMALL) as asking:
        asking.wait_for_more()
        hung = world.workers("1")[0].pid
        os.kill(hung, signal.SIGSTOP)
        seconds = world.wait(
            lambda: hung not in {one.pid for one in world.workers("1")} and len(world.workers("1")) == 2
        )
        asking.wait_for_more()
    print(f"\nreplaced after {seconds:.1f} s; answered {asking.answered}, failed {asking.failures}")
    assert asking.failures == []
    assert min(asking.answered.values()) > 5


def test_a_killed_worker_costs_no_request_with_a_large_body(world):
    assert len(str(LARGE)) > 300_000
    with Asking(world, LARGE) as asking:
        for _ in range(4):
            asking.wait_for_more()
            (killed,) = world.kill("1")
            world.wait(lambda killed=killed: len({one.pid for one in world.workers("1")} - {killed}) == 2)
        asking.wait_for_more()
    memory = {pid: psutil.Process(pid).memory_info().rss // 2**20 for pid in world.gateways()}
    print(f"\nanswered {asking.answered}, failed {asking.failures}; MiB by process of the gateway: {memory}")
    assert asking.failures == []


def test_a_killed_process_for_large_bodies_comes_back_and_costs_no_small_request(world):
    with Asking(world, SMALL) as asking:
        large = world.gateways()[1]
        os.kill(large, signal.SIGKILL)
        world.wait(lambda: world.gateways()[1:] not in ([], [large]))
        world.wait(lambda: httpx.post(f"{world.url}/predict", json={"texts": LARGE}, **LOCAL).status_code == 200)
    assert asking.failures == []


def test_after_all_that_every_line_of_the_logs_is_an_object(world):
    logs = world.settings.home / "logs"
    lines = [
        json.loads(line)
        for name in ("stack.log", "workers.log") if (logs / name).exists()
        for line in (logs / name).read_text().splitlines()
    ]  # fmt: skip
    assert all({"time", "level", "logger", "message", "process", "pid"} <= set(line) for line in lines)
    assert {line["process"] for line in lines} == {"daemon", "worker"}
    assert any(line["message"] == "a worker hangs and is killed" and line["worker"] for line in lines)
    assert "refund" not in str(lines)


@pytest.fixture
def fake():
    """A worker that can be told to hang, and dies over every request."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _BreaksOff)
    server.daemon_threads, server.hangs, server.checks = True, threading.Event(), 0
    # Whoever asked has gone when a hung one wakes.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def gateway(tmp_path):
    """A gateway with no stack around it."""
    sizes = {"slots": 1, "max_body_bytes": 200_000}
    made = Gateway(tmp_path, port=free_port(), log=tmp_path / "log", **sizes)
    yield made
    made.stop()


def test_what_breaks_off_each_time_is_a_503_with_a_time_to_come_back(gateway, fake):
    gateway.sync(Split(champion="1@a", champion_ports=(fake.server_port,)))
    answers = [ask(gateway.port, text) for text in ("small", "large " * 20_000)]
    assert [(one.status_code, one.headers["retry-after"]) for one in answers] == [(503, "1")] * 2
    assert [one.headers["x-tokka-failed"] for one in answers] == ["502"] * 2
    assert all("broke off" in one.json()["error"] for one in answers)


def test_a_worker_that_answers_no_more_leaves_both_ways(gateway, fake):
    with socket.socket() as grpc_door:
        grpc_door.bind(("127.0.0.1", 0))
        grpc_door.listen()
        ports = {"champion_ports": (fake.server_port,), "champion_grpc_ports": (grpc_door.getsockname()[1],)}
        gateway.sync(Split(champion="1@a", **ports))
        wait_for(lambda: fake.checks >= 6, what="three health checks of either way")
        assert up(gateway) == {"champion", "canary", "grpc_champion", "grpc_canary"}
        fake.hangs.set()
        wait_for(lambda: not up(gateway), what=lambda: up(gateway))
        fake.hangs.clear()
        wait_for(lambda: len(up(gateway)) == 4, what=lambda: up(gateway))


def up(gateway):
    """Names of the backends that have a worker."""
    slots = [slot for slot in gateway.api.slots() if slot.enabled and slot.running]
    return {slot.backend for slot in slots if slot.name != "relay"}


class _BreaksOff(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.checks += 1
        while self.server.hangs.is_set():
            time.sleep(0.05)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "100")
        self.end_headers()
        self.wfile.write(b"{")
        self.close_connection = True

    def log_message(self, *arguments):
        pass


def ask(port, text):
    return httpx.post(f"http://127.0.0.1:{port}/predict", json={"text": text}, **LOCAL)
