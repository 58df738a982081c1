"""Traffic through the real gateway to real workers."""

import json
import socket
import threading
import time

import httpx
import pytest

from tests.fixtures.waiting import LOCAL, wait_for
from tests.fixtures.world import NAME
from tokka.errors import TokkaError
from tokka.gateway.api_keys import own_headers
from tokka.gateway.client import predict
from tokka.gateway.replay import Replayed, replay
from tokka.stack.local_target import LocalTarget


@pytest.fixture(autouse=True)
def alone(world):
    """Each test begins with the champion alone."""
    world.retire()


class Stream:
    """Requests in the background, as fast as they are answered, until the block ends."""

    def __init__(self, url: str, threads: int = 3) -> None:
        self.statuses: list[int] = []
        self.versions: list[str] = []
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(threads)]

    def __enter__(self) -> "Stream":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int = 10) -> None:
        """Until so many more answers have come."""
        wanted = len(self.statuses) + count
        wait_for(lambda: len(self.statuses) >= wanted)

    def _send(self) -> None:
        with httpx.Client(**LOCAL) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(f"{self._url}/predict", json={"text": "refund please"})
                    self.statuses.append(answer.status_code)
                    self.versions.append(answer.json().get("model_version", ""))
                except httpx.HTTPError:
                    self.statuses.append(0)


def test_an_answer_says_who_gave_it(world):
    (answer,) = predict(world.url, ["where is my card?"])
    assert answer["model_version"] == "1"
    assert answer["canary"] is False
    assert answer["label"] in ("card", "order", "password", "printer", "refund")
    assert 0 < answer["score"] <= 1
    assert len(answer["prediction_id"]) >= 32


def test_the_same_answer_comes_alone_and_in_a_batch(world):
    texts = [f"my order {number} is late" for number in range(40)]
    together = predict(world.url, texts)
    alone = predict(world.url, texts[:1])
    assert together[0]["label"] == alone[0]["label"]
    assert together[0]["score"] == pytest.approx(alone[0]["score"], abs=0.02)
    assert len({answer["prediction_id"] for answer in together}) == 40


def test_the_share_is_respected_and_logged(world):
    world.challenge("2", 0.25)
    since = time.time()
    results = replay(
        [{"text": f"card {number}"} for number in range(800)],
        world.url,
        feedback=False,
        headers=own_headers(world.settings.home),
    )
    assert {result.status for result in results} == {200}
    canary = sum(result.canary for result in results) / len(results)
    # Three standard deviations of 800 draws.
    assert abs(canary - 0.25) < 0.046
    assert all(result.canary == (result.version == "2") for result in results)
    ids = {result.prediction_id: result for result in results}

    def logged():
        return [one for one in world.logged("request", since) if one["prediction_id"] in ids]

    world.wait(lambda: len(logged()) == 800)
    assert {one["share"] for one in logged()} == {0.25}
    assert all(one["canary"] == ids[one["prediction_id"]].canary for one in logged())


def test_a_user_stays_with_one_revision(world):
    world.challenge("2", 0.5)
    users = {
        user: {predict(world.url, ["x"], user=user)[0]["model_version"] for _ in range(4)}
        for user in map(str, range(24))
    }
    assert all(len(versions) == 1 for versions in users.values())
    assert set.union(*users.values()) == {"1", "2"}


def test_users_whose_names_hold_a_comma_are_told_apart(world):
    since = time.time()
    for name in ("Doe, John", "Roe, John", "John"):
        assert world.ask(**{"x-user-id": name}).status_code == 200
    world.wait(lambda: len(world.logged("request", since)) == 3)
    assert len({one["key"] for one in world.logged("request", since)}) == 3


def test_who_names_a_version_gets_that_one_and_is_no_evidence(world):
    world.challenge("2", 0.5)
    since = time.time()
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["my card"]}]}

    def ask(version: str) -> tuple[int, str]:
        path = f"{world.url}/v2/models/{NAME}/versions/{version}/infer"
        answer = httpx.post(path, json=body, **LOCAL)
        return answer.status_code, answer.json().get("model_version", "")

    assert {ask("1") for _ in range(12)} == {(200, "1")}
    assert {ask("2") for _ in range(12)} == {(200, "2")}
    assert ask("9")[0] == 404
    world.wait(lambda: len(world.logged("request", since)) == 25)
    assert {one["route"] for one in world.logged("request", since)} == {"pinned"}


def test_how_slowly_a_client_sends_is_not_the_model_s_time(world):
    since, body = time.time(), b'{"text": "my card is late"}'
    with socket.create_connection(("127.0.0.1", world.settings.port)) as client:
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[:9])
        # The client takes longer than some answers do, and less than a request may; none of that may be in the log.
        assert {world.ask().status_code for _ in range(5)} == {200}
        sent = time.monotonic()
        client.sendall(body[9:])
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        waited_ms = 1000 * (time.monotonic() - sent)
    name = json.loads(answer.partition(b"\r\n\r\n")[2])["prediction_id"]
    world.wait(lambda: len(world.logged("request", since)) == 6)
    (found,) = [one for one in world.logged("request", since) if one["prediction_id"] == name]
    assert 0 < found["latency_ms"] <= waited_ms + 1


def test_what_a_client_says_about_the_split_is_not_believed(world):
    since = time.time()
    forged = {"x-tokka-share": "0.9", "x-tokka-canary": "1", "x-tokka-champion": "9@ff", "x-tokka-shadow": "1"}
    answer = world.ask(**forged, **{"x-request-id": "forged"}).json()
    assert answer["canary"] is False
    assert answer["prediction_id"] != "forged"
    (found,) = [one for one in world.logged("prediction", since) if one["prediction_id"] == answer["prediction_id"]]
    assert (found["share"], found["assigned"], found["replayed"]) == (0.0, False, False)


def test_replayed_traffic_and_its_truth_are_joined(world):
    since = time.time()
    rows = [{"text": f"printer {number}", "target": "printer"} for number in range(20)]
    results = replay(rows, world.url, rate=200, headers=own_headers(world.settings.home))
    assert all(isinstance(result, Replayed) and result.status == 200 for result in results)
    world.wait(lambda: sum(1 for one in joined(world, since) if one["request"]) == 20)
    for row in joined(world, since):
        assert row["replayed"] is True
        assert row["feedback"]["label"] == "printer"
        assert row["request"]["status"] == 200
        assert row["text"].startswith("printer ")


def test_a_killed_worker_costs_no_request_and_is_back(world):
    with Stream(world.url) as stream:
        stream.wait_for_more(26)
        (killed,) = world.kill("1")
        world.wait(lambda: killed not in pids(world, "1") and len(world.workers("1")) == 2)
        stream.wait_for_more(26)
    assert len(stream.statuses) > 50
    assert set(stream.statuses) == {200}


def test_a_killed_challenger_costs_no_request_and_the_champion_answers(world):
    world.challenge("2", 0.5)
    since = time.time()

    def stand_ins():
        return [one for one in world.logged("request", since) if one["stand_in"]]

    with Stream(world.url) as stream:
        # The daemon sees a death within a tenth of a second: on a busy machine nobody may have asked in it.
        for _ in range(20):
            stream.wait_for_more()
            world.kill("2", all_of_them=True)
            stream.wait_for_more()
            world.wait(lambda: len(world.workers("2")) == 2)
            if stand_ins():
                break
    assert set(stream.statuses) == {200}
    assert set(stream.versions) == {"1", "2"}
    assert stand_ins()
    answers = {one["prediction_id"]: one for one in world.logged("prediction", since)}
    assert all(answers[one["prediction_id"]]["canary"] is False for one in stand_ins())
    # The share comes back by itself as soon as there is somebody to send it to.
    world.wait(lambda: world.target.observe().share == 0.5)


def test_promotion_and_rollback_under_traffic_fail_nothing(world):
    world.challenge("2", 0.5)
    first, second = world.revisions["1"], world.revisions["2"]
    with Stream(world.url) as stream:
        stream.wait_for_more()
        world.change(champion=second, previous=first, challenger=None, share=0.0, phase="idle")
        world.wait(lambda: world.target.observe().champion == second.digest)
        # Whoever was asked before may answer now: at most one request of each of the three.
        settled = len(stream.versions)
        stream.wait_for_more(20)
        assert set(stream.versions[settled + 10 :]) == {"2"}
        world.change(champion=first, previous=second)
        world.wait(lambda: world.ask().json()["model_version"] == "1")
        stream.wait_for_more()
    assert set(stream.statuses) == {200}
    world.change(previous=None)


def test_a_killed_gateway_comes_back(world):
    import os
    import signal

    os.kill(world.gateways()[0], signal.SIGKILL)
    world.wait(lambda: answers(world))
    assert world.ask().json()["model_version"] == "1"


def test_one_revision_is_asked_off_the_live_path(world):
    since = time.time()
    rows = [{"text": f"order {number}"} for number in range(11)]
    found = world.target.infer(world.revisions["1"].digest, rows)
    assert [one.error for one in found] == [""] * 11
    assert found[3].label == predict(world.url, ["order 3"])[0]["label"]
    assert all(one.latency_ms > 0 for one in found)
    assert len(world.logged("prediction", since)) == 1
    with pytest.raises(TokkaError, match="no worker"):
        world.target.infer("f" * 64, rows)


def test_observe_says_what_serves(world):
    seen = LocalTarget(world.settings, world.params).observe()
    assert (seen.champion, seen.challenger, seen.share) == (world.revisions["1"].digest, None, 0.0)
    assert world.revisions["1"].digest in seen.ready
    assert seen.generation == world.record.read("helpdesk").generation


def joined(world, since):
    """Each prediction with the gateway's record and the feedback of the same id."""
    rows = {one["prediction_id"]: {**one, "request": None} for one in world.logged("prediction", since)}
    for kind in ("request", "feedback"):
        for one in world.logged(kind, since):
            rows.get(one["prediction_id"], {})[kind] = one
    return list(rows.values())


def pids(world, version):
    return [worker.pid for worker in world.workers(version)]


def answers(world):
    try:
        return world.ask().status_code == 200
    except httpx.HTTPError:
        return False
