"""Asynchronous jobs without a broker: messages, kept results, what a message comes to, and Kafka's half."""

import asyncio
import json
import re
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka import files
from tokka.errors import UsageError
from tokka.jobs import consumer
from tokka.jobs.broker import Queues, require_known
from tokka.jobs.consumer import Consumer, Failed, Refused, Unavailable
from tokka.jobs.gateway_client import GatewayClient, credentials
from tokka.jobs.http_api import job_of
from tokka.jobs.job_store import JobStore
from tokka.jobs.messages import Job, Undecodable, decode, decode_result, encode, encode_result
from tokka.jobs.process import secret_of
from tokka.params import parse_params
from tokka.serving.predict_api import BadRequest

ANSWER = {"prediction_id": "p", "model_version": "1", "canary": False, "label": "card", "score": 0.5}
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


class Endpoint:
    """Answers what it is told to, and counts how often it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def ask(self, job):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def results(tmp_path):
    return JobStore(f"sqlite:///{tmp_path}/jobs.db", "helpdesk")


def make_job(name="a", **facts):
    return Job(id=name, model="helpdesk", texts=["where is my card?"], shape="text", **facts)


def handle(results, endpoint, body, times=1):
    handler = Consumer(results, endpoint.ask, tries=3)
    return [asyncio.run(handler.handle(body)) for _ in range(times)]


@given(st.lists(TEXT, min_size=1, max_size=5), st.none() | TEXT, st.none() | TEXT)
def test_a_job_survives_its_message(texts, user, reply_to):
    job = Job(id="a", model="m", texts=texts, text_pairs=texts, user=user, reply_to=reply_to, created=1.5)
    assert decode(encode(job)) == job


@given(st.data())
def test_what_is_cut_off_or_added_is_no_job(data):
    body = encode(make_job())
    cut = data.draw(st.integers(0, len(body) - 1))
    for other in (body[:cut], body + b"x", data.draw(st.binary(max_size=80))):
        with pytest.raises(Undecodable):
            decode(other)


def test_an_id_that_names_a_path_is_refused():
    with pytest.raises(Undecodable, match="id"):
        decode(encode(make_job("../a")))


def test_a_result_survives_its_message():
    rows = [{**ANSWER, "value": None, "top": None}]
    found = decode_result(encode_result("a", "done", ANSWER))
    assert (found["id"], found["state"], found["predictions"], found["error"]) == ("a", "done", rows, None)
    with pytest.raises(Undecodable):
        decode(encode_result("a", "done", ANSWER))


def test_the_first_answer_stays(results):
    first = results.complete("a", "d", {"label": "one"})
    assert results.complete("a", "d", {"label": "two"}).answer == first.answer == {"label": "one"}
    assert results.fail("a", "d", "late").state == "done"
    assert results.find("a").state == "done"


def test_an_answer_replaces_a_failure(results):
    assert results.fail("a", "d", "gone").answer == {"error": "gone"}
    assert results.complete("a", "d", {"label": "one"}).state == "done"


def test_what_was_settled_long_ago_is_forgotten_and_what_waits_is_not(results):
    results.start("waits", "d")
    updated = results.complete("done", "d", {}).updated
    assert results.purge(updated) == 0
    assert results.purge(updated + 1) == 1
    assert (results.find("done"), results.find("waits").state) == (None, "queued")


def test_a_message_that_comes_again_asks_nobody(results):
    endpoint = Endpoint(ANSWER)
    told = handle(results, endpoint, encode(make_job(reply_to="r")), times=3)
    assert [one.action for one in told] == ["ack"] * 3
    assert endpoint.asked == 1
    assert {decode_result(one.reply)["predictions"][0]["label"] for one in told} == {"card"}


def test_a_failing_job_is_given_up_after_its_tries(results):
    told = handle(results, Endpoint(Failed("answered 503")), encode(make_job(reply_to="r")), times=3)
    assert [one.action for one in told] == ["retry", "retry", "dead_letter"]
    assert "answered 503" in decode_result(told[-1].reply)["error"]
    assert results.find("a").state == "failed"


def test_a_job_that_fares_better_later_is_done(results):
    told = handle(results, Endpoint(Failed("x"), Failed("x"), ANSWER), encode(make_job()), times=3)
    assert [one.action for one in told] == ["retry", "retry", "ack"]
    assert results.find("a").state == "done"


def test_poison_is_given_up_after_its_tries(results):
    endpoint = Endpoint(ANSWER)
    assert [one.action for one in handle(results, endpoint, b"\xc3\x01poison", times=3)] == [
        "retry",
        "retry",
        "dead_letter",
    ]
    assert endpoint.asked == 0


def test_poison_that_comes_back_after_it_was_given_up_is_no_further_try(results):
    """A consumer was killed between the commit and the word to the broker."""
    body = b"\xc3\x01poison"
    told = handle(results, Endpoint(ANSWER), body, times=5)
    assert [one.action for one in told] == ["retry", "retry", "dead_letter", "dead_letter", "dead_letter"]
    assert results.find(f"body-{files.digest_bytes(body)[:32]}").tries == 3


def test_an_outage_is_no_try(results):
    told = handle(results, Endpoint(Unavailable("nothing serves")), encode(make_job()), times=5)
    assert [one.action for one in told] == ["defer"] * 5
    kept = results.find("a")
    assert (kept.state, kept.tries, kept.starts) == ("queued", 0, 0)


def test_a_result_that_cannot_be_kept_is_no_fault_of_the_message(tmp_path, monkeypatch):
    monkeypatch.setattr(consumer, "FAULT_SECONDS", 0.0)
    results = JobStore(f"sqlite:///{tmp_path}/jobs.db", "helpdesk")
    (tmp_path / "jobs.db").unlink()
    (tmp_path / "jobs.db").mkdir()
    (told,) = handle(results, Endpoint(ANSWER), encode(make_job()))
    assert told.action == "defer"


def test_a_refused_job_is_settled_at_once(results):
    (told,) = handle(results, Endpoint(Refused("no text_pair")), encode(make_job()))
    assert (told.action, results.find("a").answer) == ("ack", {"error": "no text_pair"})


def test_an_id_of_another_job_is_a_dead_letter_and_the_first_stays(results):
    handle(results, Endpoint(ANSWER), encode(make_job()))
    (told,) = handle(results, Endpoint(ANSWER), encode(make_job(user="another")))
    assert (told.action, results.find("a").state) == ("dead_letter", "done")


def accept(tree, path="/predict", **headers):
    body = json.dumps(tree).encode()
    return job_of(path, body, {"x-request-id": "gateway", **headers}, model="m", max_rows=3, secret=b"s")


def test_a_request_becomes_a_job():
    assert accept({"text": "a"}).shape == "text"
    assert accept({"texts": ["a", "b"], "text_pairs": ["c", "d"]}).text_pairs == ["c", "d"]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": [["a"], ["b"]]}
    assert accept({"inputs": [tensor]}, "/v2/models/m/infer").texts == ["a", "b"]
    assert accept({"text": "a"}).id == "gateway"


def test_a_key_is_of_one_caller_and_one_secret():
    one = accept({"text": "a"}, **{"idempotency-key": "k"}).id
    assert one == accept({"text": "b"}, **{"idempotency-key": "k"}).id
    assert one != accept({"text": "a"}, **{"idempotency-key": "k", "authorization": "Bearer x"}).id
    assert re.fullmatch("[0-9a-f]{32}", one)


@pytest.mark.parametrize(
    ("tree", "path", "status"),
    [
        ({}, "/predict", 400),
        ({"texts": ["a"] * 4}, "/predict", 422),
        ({"text": "a"}, "/v2/models/m/infer", 400),
        ({"inputs": [{"name": "text", "datatype": "FP32", "data": [1]}]}, "/v2/models/m/infer", 400),
        ({"inputs": [{"name": "other", "datatype": "BYTES", "data": ["a"]}]}, "/v2/models/m/infer", 400),
        ({"inputs": []}, "/v2/models/another/infer", 404),
    ],
)
def test_what_would_be_refused_now_is_no_job(tree, path, status):
    with pytest.raises(BadRequest) as refused:
        accept(tree, path)
    assert refused.value.status == status


def test_a_key_that_is_none_is_refused():
    for key in ("", "with space", "x" * 201):
        with pytest.raises(BadRequest, match="Idempotency-Key"):
            accept({"text": "a"}, **{"idempotency-key": key})


def test_the_consumer_shows_the_key_that_is_there_now(tmp_path, monkeypatch):
    monkeypatch.delenv("TOKKA_KEY", raising=False)
    assert credentials(tmp_path) == {}
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "own.key").write_text("own")
    assert credentials(tmp_path) == {"x-api-key": "own"}
    monkeypatch.setenv("TOKKA_KEY", "given")
    assert credentials(tmp_path) == {"x-api-key": "given"}


def test_a_question_waits_while_nothing_serves_and_fails_when_something_does():
    def ask(serves, status, **headers):
        def answer(request):
            healthy = 200 if serves else 503
            status_now = healthy if request.url.path == "/health" else status
            return httpx.Response(status_now, json={"error": "why"}, headers=headers)

        async def run():
            asker = GatewayClient("http://gateway", dict, patience_seconds=0.0)
            asker._client = httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer))
            await asker.ask(make_job())

        asyncio.run(run())

    with pytest.raises(Refused, match="why"):
        ask(True, 422)
    with pytest.raises(Failed, match="503"):
        ask(True, 503)
    # A wrong key, a limit and a full house are no fault of the job's.
    for status in (401, 403, 429):
        with pytest.raises(Unavailable, match=str(status)):
            ask(True, status)
    with pytest.raises(Unavailable, match="503"):
        ask(True, 503, **{"retry-after": "1"})
    # What the gateway asked for ten times in vain is a try: the job may be what kills the workers.
    with pytest.raises(Failed, match="503"):
        ask(True, 503, **{"retry-after": "1", "x-tokka-failed": "502"})
    with pytest.raises(Unavailable):
        ask(False, 503)


def test_a_busy_endpoint_is_asked_again_when_it_says():
    asked = []

    def answer(request):
        asked.append(time.monotonic())
        busy = len(asked) < 3
        return httpx.Response(503 if busy else 200, json={"label": "a"}, headers={"retry-after": "1"} if busy else {})

    async def run():
        asker = GatewayClient("http://gateway", dict)
        asker._client = httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer))
        return await asker.ask(make_job())

    assert asyncio.run(run()) == {"label": "a"}
    assert asked[2] - asked[0] >= 2.0


def test_a_text_that_speaks_of_pairs_is_no_pair():
    job = accept({"text": 'what is "text_pair" for?'})
    assert job.text_pairs is None
    assert accept({"text": "a", "text_pair": "b"}).text_pairs == ["b"]


def test_the_secret_is_made_once_and_is_private(tmp_path):
    path = tmp_path / "jobs.secret"
    assert secret_of(path) == secret_of(path)
    assert (len(secret_of(path)), path.stat().st_mode & 0o777) == (32, 0o600)


def test_a_broker_of_no_known_kind_and_a_password_in_params_are_refused():
    with pytest.raises(UsageError, match="expected amqp, amqps or kafka") as refused:
        require_known("redis://user:secret@localhost")
    assert "secret" not in refused.value.message
    with pytest.raises(UsageError, match="TOKKA_BROKER"):
        parse_params({"serving": {"asynchronous": {"broker": "amqp://me:secret@localhost/"}}})


def test_kafka_tries_again_keeps_dead_letters_and_replies(results):
    """FastStream's own broker in memory: the wiring runs, a Kafka does not."""
    from faststream.kafka import TestKafkaBroker

    from tokka.jobs import broker, kafka

    queues, seen = Queues("helpdesk"), {}

    def remember(topic):
        async def take(body: bytes) -> None:
            seen.setdefault(topic, []).append(body)

        return take

    async def run():
        transport = kafka.KafkaTransport("kafka://127.0.0.1:9", queues)
        handler = Consumer(results, Endpoint(Failed("x"), ANSWER).ask, tries=3)
        transport.consume(handler.handle, handler.give_up)
        for topic in (queues.dead, "replies"):
            transport.broker.subscriber(topic, decoder=broker.raw)(remember(topic))
        async with TestKafkaBroker(transport.broker):
            await transport.publish(encode(make_job(reply_to="replies")), "a")
            await transport.publish(b"poison", "b")

    broker.FAULT_SECONDS, before = 0.01, broker.FAULT_SECONDS
    try:
        asyncio.run(run())
    finally:
        broker.FAULT_SECONDS = before
    assert seen[queues.dead] == [b"poison"]
    assert [decode_result(body)["state"] for body in seen["replies"]] == ["done"]
    assert results.find("a").tries == 1
