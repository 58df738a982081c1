"""One id is one job: whoever comes at the same time with something else is refused, and never gets another's answer."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fixtures.waiting import until
from tokka.jobs.broker import Unconfirmed
from tokka.jobs.consumer import DEATHS, Consumer, Unavailable
from tokka.jobs.http_api import JobsApi
from tokka.jobs.job_store import IdTaken, JobStore
from tokka.jobs.messages import Job, decode, decode_result, encode
from tokka.sections_serving import Serving

NAME = "helpdesk"


@pytest.fixture
def url(record_url):
    return record_url


class Queue:
    """What a broker would have, refused as often as it is told.

    held: an event until which nothing is confirmed.
    """

    def __init__(self, refusals=0, held=None):
        self.bodies, self.asked = [], 0
        self._refusals, self.held = refusals, held

    async def publish(self, body, name):
        self.asked += 1
        if self.held:
            await self.held.wait()
        if self._refusals:
            self._refusals -= 1
            raise Unconfirmed("the broker is away")
        self.bodies.append(body)


def make_door(url, queue):
    results = JobStore(url, NAME)
    return JobsApi(
        results,
        queue.publish,
        describe=nobody_serves,
        model=NAME,
        limits=Serving(max_rows=4, max_body_bytes=10_000),
        secret=b"secret",
    )


async def nobody_serves(model):
    return None


async def ask(door, text, key="k", request="r"):
    """POST /predict with an idempotency key: the status and the answer."""
    headers = [(b"x-request-id", request.encode()), (b"idempotency-key", key.encode())]
    sent = []

    async def receive():
        return {"type": "http.request", "body": json.dumps({"text": text}).encode()}

    async def send(message):
        sent.append(message)

    await door({"type": "http", "method": "POST", "path": "/predict", "headers": headers}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def together(asking, condition=lambda tasks: True, held=None):
    """What comes of all at once; what is held is let go once a condition holds for their tasks."""

    async def run():
        tasks = [asyncio.ensure_future(one) for one in asking]
        await until(lambda: condition(tasks))
        if held:
            held.set()
        return await asyncio.gather(*tasks)

    return asyncio.run(run())


def one_has_ended(tasks):
    return any(task.done() for task in tasks)


def test_of_two_requests_under_one_key_at_once_the_other_is_refused(url):
    queue = Queue(held=asyncio.Event())
    # Two doors: the two requests may as well come to two machines.
    asking = [ask(make_door(url, queue), text) for text in ("one", "two")]
    answers = together(asking, one_has_ended, queue.held)
    assert sorted(status for status, _ in answers) == [202, 422]
    assert len(queue.bodies) == 1
    (refusal,) = [tree["error"] for status, tree in answers if status == 422]
    assert "another request" in refusal


def test_the_same_request_under_one_key_at_once_is_one_job(url):
    queue = Queue(held=asyncio.Event())
    asking = [ask(make_door(url, queue), "one", request=f"r{number}") for number in range(4)]
    answers = together(asking, lambda tasks: queue.asked == len(tasks), queue.held)
    assert {status for status, _ in answers} == {202}
    assert len({tree["job"] for _, tree in answers}) == 1
    assert len({decode(body).id for body in queue.bodies}) == 1


def test_a_key_whose_message_was_not_taken_may_be_sent_again_and_belongs_to_its_request(url):
    queue = Queue(refusals=1)
    door = make_door(url, queue)
    statuses = [asyncio.run(ask(door, text))[0] for text in ("one", "two", "one")]
    assert statuses == [503, 422, 202]
    assert [decode(body).texts for body in queue.bodies] == [["one"]]


def test_of_two_messages_under_one_id_at_once_each_gets_its_own_answer_or_none(url):
    asked, refused = [], asyncio.Event()

    async def answer(job):
        asked.append(job)
        await refused.wait()
        return {"prediction_id": "p", "model_version": "1", "canary": False, "label": job.texts[0], "score": 1.0}

    def handle(text):
        job = Job(id="a", model=NAME, texts=[text], shape="text", reply_to="replies")
        return Consumer(JobStore(url, NAME), answer, tries=3).handle(encode(job))

    told = together([handle("one"), handle("two")], one_has_ended, refused)
    assert sorted(one.action for one in told) == ["ack", "dead_letter"]
    for text, one in zip(("one", "two"), told, strict=True):
        found = decode_result(one.reply)
        if one.action == "ack":
            assert found["predictions"][0]["label"] == text
        else:
            assert "another job" in found["error"]
    assert len(asked) == 1


def test_an_id_is_claimed_once_by_however_many(url):
    def claim(number):
        try:
            return JobStore(url, NAME).claim("a", f"digest-{number}").digest
        except IdTaken:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = [digest for digest in pool.map(claim, range(16)) if digest]
    assert len(found) == 1
    assert JobStore(url, NAME).find("a").digest == found[0]
    # Another endpoint's jobs in the same database are other jobs.
    assert JobStore(url, "another").claim("a", "digest").digest == "digest"


def test_a_message_that_kills_whoever_takes_it_is_given_up(url):
    async def die(job):
        raise asyncio.CancelledError

    job = encode(Job(id="a", model=NAME, texts=["x"], reply_to="replies"))
    for _ in range(DEATHS):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(Consumer(JobStore(url, NAME), die, tries=3).handle(job))
    told = asyncio.run(Consumer(JobStore(url, NAME), die, tries=3).handle(job))
    assert told.action == "dead_letter"
    assert "came to no end 20 times" in decode_result(told.reply)["error"]
    assert JobStore(url, NAME).find("a").state == "failed"


def test_a_job_that_waits_for_a_model_is_not_given_up_for_that(url):
    async def away(job):
        raise Unavailable("nothing serves")

    job = encode(Job(id="a", model=NAME, texts=["x"]))
    told = [asyncio.run(Consumer(JobStore(url, NAME), away, tries=3).handle(job)) for _ in range(DEATHS + 5)]
    assert {one.action for one in told} == {"defer"}


def test_what_the_broker_gave_up_is_failed_once_and_said(url):
    async def never(job):
        raise AssertionError("nobody is to be asked")

    handler = Consumer(JobStore(url, NAME), never, tries=3)
    body = encode(Job(id="a", model=NAME, texts=["x"], reply_to="replies"))
    told = [asyncio.run(handler.give_up(body, "delivered 20 times")) for _ in range(2)]
    assert [one.action for one in told] == ["ack", "ack"]
    assert "delivered 20 times" in decode_result(told[0].reply)["error"]
    assert told[1].reply == b""
    assert asyncio.run(handler.give_up(b"poison", "rejected")).action == "ack"
    JobStore(url, NAME).complete("done", "d", {"label": "card"})
    assert JobStore(url, NAME).find("a").answer == {"error": "given up by the broker: delivered 20 times"}


def test_a_job_without_an_answer_for_too_long_is_failed_and_a_late_answer_replaces_that(url):
    results = JobStore(url, NAME)
    created = results.start("old", "d").created
    results.complete("done", "d", {"label": "card"})
    assert results.expire(created, "too long") == 0
    assert results.expire(created + 0.0001, "too long") == 1
    assert results.find("old").answer == {"error": "too long"}
    assert results.complete("old", "d", {"label": "late"}).state == "done"
    assert results.find("done").answer == {"label": "card"}


def test_the_last_try_and_its_end_are_one_commit(url):
    """A consumer that is killed between the two would count one more."""
    results = JobStore(url, NAME)
    results.start("a", "d")
    kept = [results.count_failure("a", "d", "answered 503", limit=3) for _ in range(3)]
    assert [(one.tries, one.state) for one in kept] == [(1, "queued"), (2, "queued"), (3, "failed")]
    assert results.find("a").answer == {"error": "given up after 3 tries: answered 503"}
    # A person put it back on the queue, and it was answered.
    results.complete("a", "d", {"label": "card"})
    assert results.count_failure("a", "d", "late", limit=3).answer == {"label": "card"}


def test_the_first_answer_stays(url):
    results = JobStore(url, NAME)
    first = results.complete("a", "d", {"label": "one"})
    assert results.complete("a", "d", {"label": "two"}).answer == first.answer == {"label": "one"}
    assert results.fail("a", "d", "late").state == "done"
    assert results.find("a").state == "done"


def test_an_answer_replaces_a_failure(url):
    results = JobStore(url, NAME)
    assert results.fail("a", "d", "gone").answer == {"error": "gone"}
    assert results.complete("a", "d", {"label": "one"}).state == "done"


def test_what_was_settled_long_ago_is_forgotten_and_what_waits_is_not(url):
    results = JobStore(url, NAME)
    results.start("waits", "d")
    updated = results.complete("done", "d", {}).updated
    assert results.purge(updated) == 0
    assert results.purge(updated + 1) == 1
    assert (results.find("done"), results.find("waits").state) == (None, "queued")
