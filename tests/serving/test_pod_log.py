"""A predictor's pod and its request log: a real model server with an S3 beside it, read as monitoring reads it."""

import os
import signal
import time

import psutil
import pytest

from tests.fixtures.models import deploy, make_model
from tests.fixtures.waiting import PATIENCE_S, wait_for
from tests.fixtures.worker import LoneWorker
from tokka.monitoring import traffic
from tokka.processes.stack_key import StackKey
from tokka.request_log import archive, log, shipping
from tokka.settings import Settings

TEXTS = [f"where is my order {number}?" for number in range(6)]


class Pods:
    """Predictor pods of one endpoint, each with a disk of its own, and the settings of whoever reads."""

    def __init__(self, folder, bucket, monkeypatch):
        self.folder, self.made = folder, []
        signer = Settings.from_environment({"TOKKA_HOME": str(folder / "home"), "TOKKA_ROOT": str(folder)})
        self.digest = make_model(folder / "model", seed=1)
        self.model = deploy(folder / "model", self.digest, signer)
        key = folder / "secret.key"
        key.write_bytes(os.urandom(32))
        self.key = StackKey.read(key, mounted=True)
        environment = {
            "TOKKA_VERIFY_KEY": str(signer.verify_key), "TOKKA_POD_KEY": str(key), "TOKKA_ROOT": str(folder),
            "TOKKA_ARCHIVE": f"{bucket}/archive", "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            "TOKKA_HOME": str(folder / "reader"),
            "TOKKA_SERVING": '{"store_text": true, "threshold": 0.99}',
        }  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        self.settings, self._patch = Settings.from_environment(), monkeypatch

    def start(self, name, version="3", **options):
        (place := self.folder / name).mkdir(exist_ok=True)
        (place / "ready.json").unlink(missing_ok=True)
        with self._patch.context() as patch:
            patch.setenv("TOKKA_HOME", str(place / "home"))
            patch.setenv("TOKKA_MODEL_URI", f"tokka://desk/{version}/{self.digest}")
            made = LoneWorker(self.model, place, **options)
        self.made.append(made)
        return made

    def records(self, kind):
        folder = archive.requests(self.settings, time.time() - 3600, "desk")
        return [record for record in log.read(folder) if record["kind"] == kind]

    def close(self):
        for one in self.made:
            if one.process.poll() is None:
                one.close()


@pytest.fixture
def pods(tmp_path, bucket, monkeypatch):
    made = Pods(tmp_path, bucket, monkeypatch)
    yield made
    made.close()


def ask(pod, text, **headers):
    answer = pod.client.post("/predict", json={"text": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_pods_have_answered_is_read_by_monitoring_and_feedback_may_go_to_any_of_them(pods):
    first, second = pods.start("one"), pods.start("two", version="4")
    answers = [ask(pod, text) for pod in (first, second) for text in TEXTS]
    assert all(answer["unsure"] for answer in answers), "the threshold of params.yaml"
    told = {"prediction_id": answers[0]["prediction_id"], "label": "refund"}
    named = {"x-tokka-client": "key-1", "x-tokka-trusted": "1"}
    vouched = {**named, "x-tokka-vouched": pods.key.vouch("key-1", True, time.time())}
    assert second.client.post("/feedback", json=told, headers=vouched).status_code == 200
    assert first.client.post("/feedback", json={**told, "label": "card"}, headers=named).status_code == 200
    made_up = {**told, "prediction_id": "0f5b1f6e-6f6b-4d2c-8a43-000000000000-0123456789ABCDEF"}
    assert first.client.post("/feedback", json=made_up, headers=vouched).status_code == 404
    ask(first, "for the shadow", **{"x-tokka-shadow": "1"})
    ask(first, "spoofed", **{"x-tokka-replayed": "1", "x-request-id": "mine", "x-tokka-champion": "9@9"})
    first.close()
    second.close()
    logged = pods.records("prediction")
    assert sorted(one["text"] for one in logged) == sorted([*TEXTS, *TEXTS, "spoofed"])
    assert {one["version"] for one in logged} == {"3", "4"} and not any(
        one["replayed"] or one["canary"] for one in logged
    )
    assert "mine" not in {one["prediction_id"] for one in logged}
    who = [(one["label"], one["client"], one["trusted"]) for one in pods.records("feedback")]
    assert sorted(who) == [("card", "", False), ("refund", "key-1", True)]
    folder = archive.requests(pods.settings, 0.0, "desk")
    seen = traffic.look(folder, "3", frozenset(), window_rows=7, windows=3)
    assert [len(window.rows) for window in seen.cuts.windows] == [7] and seen.unread == []
    assert [one["text"] for one in seen.learnable] == [TEXTS[0]]


def test_with_the_storage_away_predictions_go_on_and_come_there_after_a_kill_and_a_start(pods, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        pod = pods.start("one")
    answers = [ask(pod, text) for text in TEXTS]
    page = pod.client.get("/metrics").text
    assert "tokka_request_log_waiting_bytes" in page and "tokka_unlogged_total 0.0" in page
    pod.process.send_signal(signal.SIGKILL)
    pod.process.wait(PATIENCE_S)
    assert pods.records("prediction") == []
    again = pods.start("one")
    answers += [ask(again, "after it")]
    again.close()
    assert sorted(one["prediction_id"] for one in pods.records("prediction")) == sorted(
        one["prediction_id"] for one in answers
    )
    assert shipping.read(pods.folder / "one" / "home" / "requests").waiting == 0


def test_what_copies_is_started_again_when_it_is_killed(pods):
    pod = pods.start("one")
    wait_for(lambda: copier(pod.process.pid) is not None, what=pod.log.read_text)
    first = copier(pod.process.pid)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: copier(pod.process.pid) not in (None, first), what=pod.log.read_text)
    ask(pod, TEXTS[0])
    pod.close()
    assert pod.process.returncode == 0 and len(pods.records("prediction")) == 1


def test_a_pod_without_an_archive_serves_logs_nothing_and_says_so_to_who_gives_feedback(pods, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delenv("TOKKA_ARCHIVE")
        pod = pods.start("one")
    told = {"prediction_id": ask(pod, TEXTS[0])["prediction_id"], "label": "refund"}
    refused = pod.client.post("/feedback", json=told)
    assert refused.status_code == 503 and "TOKKA_ARCHIVE" in refused.json()["error"]
    assert copier(pod.process.pid) is None and not (pods.folder / "one" / "home" / "requests").exists()


def copier(parent):
    """The process that copies a server's log."""
    return next((one.pid for one in psutil.Process(parent).children() if shipping.MODULE in one.cmdline()), None)
