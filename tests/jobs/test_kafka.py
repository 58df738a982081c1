"""Asynchronous jobs over Kafka's protocol and a real stack: nothing lost, nothing double, whoever is killed."""

import asyncio
import contextlib
import time
from urllib.parse import urlsplit

import pytest

from tests.fixtures.waiting import LIMIT_S
from tests.jobs.jobs import QUEUES, make_load, post, require_all_once, settled, under_fire, world_with
from tests.jobs.kafka_broker import AVAILABLE, VARIABLE, KafkaBroker

pytestmark = pytest.mark.skipif(
    not AVAILABLE, reason=f"no Kafka ({VARIABLE}) and no confluent-kafka: jobs over Kafka were NOT tested"
)


@pytest.fixture(scope="module")
def broker():
    made = KafkaBroker()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def world(models, tmp_path_factory, broker):
    with world_with(broker, models, tmp_path_factory.mktemp("home")) as made:
        yield made


def test_an_answer_that_can_wait_is_fetched_later(world):
    found = settled(world, post(world, "/predict", {"texts": ["where is my card?", "refund"]}))
    assert (found["state"], len(found["result"]["predictions"])) == ("done", 2)


def test_duplicates_poison_and_kills_lose_nothing_and_double_nothing(world, broker):
    bodies = make_load(unique=120, copies=24, poison=4)
    replies = asyncio.run(under_fire(world, broker.url, bodies, topic_of_replies, unique=120, kills=2))
    # Whoever is killed between a dead letter and its offset's commit sends it again.
    dead = asyncio.run(everything(broker.url, QUEUES.dead, at_least=4))
    require_all_once(world, bodies, replies, dead)


@contextlib.asynccontextmanager
async def topic_of_replies(url, collect):
    """Kafka's topic `replies`, from its first message on."""
    async with reader(url, "replies") as consumer:

        async def take():
            async for message in consumer:
                collect(message.value)

        taking = asyncio.create_task(take())
        yield
        taking.cancel()


async def everything(url, topic, at_least):
    """What lies in a topic, to its end, once so many different messages have come."""
    found, deadline = [], time.monotonic() + LIMIT_S
    async with reader(url, topic) as consumer:
        while len(set(found)) < at_least or await is_behind(consumer):
            assert time.monotonic() < deadline, f"{len(set(found))} of {at_least} in {topic}"
            found += values(await consumer.getmany(timeout_ms=500, max_records=1000))
    return found


async def is_behind(consumer):
    ends = await consumer.end_offsets(consumer.assignment())
    return any([await consumer.position(partition) < end for partition, end in ends.items()])


def values(batches):
    return [message.value for messages in batches.values() for message in messages]


@contextlib.asynccontextmanager
async def reader(url, topic):
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(topic, bootstrap_servers=urlsplit(url).netloc, auto_offset_reset="earliest")
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
