"""Kafka's half of the jobs, on FastStream's own broker in memory: the wiring runs, a Kafka does not."""

import asyncio

from faststream.kafka import TestKafkaBroker

from tokka.jobs import broker
from tokka.jobs.broker import Queues
from tokka.jobs.consumer import Consumer, Failed
from tokka.jobs.job_store import JobStore
from tokka.jobs.kafka import KafkaTransport
from tokka.jobs.messages import Job, decode_result, encode

JOB = Job(id="a", model="helpdesk", texts=["where is my card?"], shape="text", reply_to="replies")
ANSWER = {"prediction_id": "p", "model_version": "1", "canary": False, "label": "card", "score": 0.5}


def test_kafka_tries_again_keeps_dead_letters_and_replies(tmp_path, monkeypatch):
    monkeypatch.setattr(broker, "FAULT_SECONDS", 0.01)
    results, queues = JobStore(f"sqlite:///{tmp_path}/jobs.db", "helpdesk"), Queues("helpdesk")
    seen, asked = {}, []

    def remember(topic):
        async def take(body: bytes) -> None:
            seen.setdefault(topic, []).append(body)

        return take

    async def ask(job):
        asked.append(job)
        if len(asked) == 1:
            raise Failed("x")
        return ANSWER

    async def run():
        transport = KafkaTransport("kafka://127.0.0.1:9", queues)
        handler = Consumer(results, ask, tries=3)
        transport.consume(handler.handle, handler.give_up)
        for topic in (queues.dead, "replies"):
            transport.broker.subscriber(topic, decoder=broker.raw)(remember(topic))
        async with TestKafkaBroker(transport.broker):
            await transport.publish(encode(JOB), "a")
            await transport.publish(b"poison", "b")

    asyncio.run(run())
    assert seen[queues.dead] == [b"poison"]
    assert [decode_result(body)["state"] for body in seen["replies"]] == ["done"]
    assert results.find("a").tries == 1
