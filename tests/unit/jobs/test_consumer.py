"""What a message comes to, without a broker: an answer, another try, or the dead letters."""

import asyncio

import pytest

from tokka import files
from tokka.errors import TokkaError
from tokka.jobs import consumer
from tokka.jobs.consumer import Consumer, Failed, Refused, Unavailable
from tokka.jobs.job_store import JobStore
from tokka.jobs.messages import Job, decode_result, encode

ANSWER = {"prediction_id": "p", "model_version": "1", "canary": False, "label": "card", "score": 0.5}


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


def test_a_job_that_is_given_up_is_told_before_the_broker_is_and_again_after_a_crash(results):
    told = []
    handler = Consumer(results, Endpoint(Failed("answered 503")).ask, tries=1, tell=lambda *said: told.append(said))
    body = encode(make_job())
    for _ in range(2):
        assert asyncio.run(handler.handle(body)).action == "dead_letter"
    assert asyncio.run(handler.handle(b"no job at all")).action == "dead_letter"
    assert [name for name, _ in told[:2]] == ["a", "a"] and told[2][0].startswith("body-")


def test_a_message_waits_while_nobody_can_be_told(results, monkeypatch):
    monkeypatch.setattr(consumer, "FAULT_SECONDS", 0.0)

    def away(*said):
        raise TokkaError("the outbox does not answer")

    handler = Consumer(results, Endpoint(Failed("answered 503")).ask, tries=1, tell=away)
    assert asyncio.run(handler.handle(encode(make_job()))).action == "defer"
