"""Short words for what tests of asynchronous jobs do: send them, wait for them, kill who works on them."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time

import httpx

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LIMIT_S, LOCAL, until
from tests.fixtures.world import World
from tokka import files
from tokka.jobs.broker import Queues, Transport
from tokka.jobs.job_store import JobStore
from tokka.jobs.messages import Job, decode_result, encode
from tokka.jobs.process import open_transport

ASYNC = {"prefer": "respond-async"}
QUEUES = Queues("helpdesk")
TRIES = 3
NOT_COUNTED = ("tokka_job_duration_seconds_bucket", "tokka_job_duration_seconds_sum", "tokka_jobs_database_up")


@contextlib.contextmanager
def world_with(broker, models, home, **serving):
    """A running stack whose jobs go through this broker."""
    made = World(home, free_port(), models, **serving)
    made.settings = made.settings.model_copy(update={"broker": broker.url})
    try:
        made.install("1")
        made.up()
        made.wait(lambda: post(made, "/predict", {"text": "are you there?"}).status_code == 202)
        yield made
    finally:
        made.close()
        shutil.rmtree(made.settings.home, ignore_errors=True)


def make_load(unique, copies, poison):
    """Messages in a random order that is always the same, as (name, body): jobs, some of them twice, and poison."""
    jobs = [Job(id=f"load-{n}", model="helpdesk", texts=[f"order {n}"], reply_to="replies") for n in range(unique)]
    bodies = [(job.id, encode(job)) for job in jobs]
    bodies += random.Random(7).sample(bodies, copies)
    bodies += [(f"poison-{n}", bytes([n]) * 50) for n in range(poison)]
    random.Random(8).shuffle(bodies)
    return bodies


def require_all_once(world, bodies, replies, dead):
    """See that every job has one answer, kept and sent, and that the poison alone, after its tries, was given up."""
    results = JobStore(world.settings.jobs_url, "helpdesk")
    names = {name for name, _ in bodies if name.startswith("load-")}
    poison = [body for name, body in bodies if name.startswith("poison-")]
    kept = [results.find(name) for name in names]
    lost = [name for name, one in zip(names, kept, strict=True) if one is None or one.state != "done"]
    double = [name for name, found in replies.items() if len({prediction(one) for one in found}) > 1]
    print(
        f"\n{len(bodies)} messages: {len(names)} jobs, {len(bodies) - len(names) - len(poison)} duplicates, "
        f"{len(poison)} poison: {len(kept) - len(lost)} results, {len(lost)} lost, {len(double)} double, "
        f"{len(dead)} dead letters"
    )
    assert (lost, double) == ([], [])
    assert set(replies) == names
    assert set(dead) == set(poison)
    assert {results.find(results_name(body)).tries for body in dead} == {TRIES}


def results_name(body):
    """The name under which the tries of a body that is no job are counted."""
    return f"body-{files.digest_bytes(body)[:32]}"


def prediction(reply):
    return reply["predictions"][0]["prediction_id"]


async def under_fire(world, url, bodies, listen, *, unique, kills):
    """Publish everything, kill consumers and workers meanwhile, and collect the replies by job.

    Args:
        listen: opens the queue of replies, and shows each to a function.
    """
    replies, results = {}, JobStore(world.settings.jobs_url, "helpdesk")

    def collect(body):
        found = decode_result(body)
        replies.setdefault(found["id"], []).append(found)

    async with listen(url, collect):
        transport = open_transport(url, QUEUES, concurrent=1)
        publishing = asyncio.create_task(publish(transport, bodies))
        for number in range(kills):
            before = len(replies)
            await until(lambda: len(replies) >= min(before + 40, unique))  # noqa: B023
            await asyncio.to_thread(kill_consumer, world)
            if number < 2:
                world.kill("1")
        await publishing
        await until(lambda: len(replies) == unique)
        poison = [results_name(body) for name, body in bodies if name.startswith("poison-")]
        await until(lambda: all((found := results.find(name)) and found.tries == TRIES for name in poison))
    return replies


@contextlib.asynccontextmanager
async def rabbit_replies(url, collect):
    """RabbitMQ's queue `replies`, from its first message on."""
    from faststream.rabbit import RabbitBroker, RabbitMessage, RabbitQueue

    async def raw(message):
        return bytes(message.body)

    async def take(message: RabbitMessage) -> None:
        collect(bytes(message.body))

    listener = RabbitBroker(url, logger=None)
    listener.subscriber(RabbitQueue("replies", durable=True), decoder=raw, no_reply=True)(take)
    await listener.start()
    yield
    await listener.stop()


async def publish(transport: Transport, bodies):
    await transport.start()
    for name, body in bodies:
        await transport.publish(body, name)
    await transport.stop()


async def drain(url, queue, at_least):
    """Everything that lies in a queue, once so much has come."""
    import aio_pika

    connection = await aio_pika.connect(url)
    found, deadline = [], time.monotonic() + LIMIT_S
    async with connection:
        channel = await connection.channel()
        source = await channel.get_queue(queue)
        while True:
            message = await source.get(fail=False, no_ack=True)
            if message is not None:
                found.append(message.body)
            elif len(found) >= at_least:
                return found
            else:
                assert time.monotonic() < deadline, f"{len(found)} of {at_least} in {queue}"
                await asyncio.sleep(0.02)


def counted(world):
    """The series of jobs in /metrics, without the histograms' buckets and sums."""
    text = httpx.get(f"http://127.0.0.1:{world.settings.admin_port}/metrics", **LOCAL).text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("tokka_job")]
    return {name: float(value) for name, value in lines if not name.startswith(NOT_COUNTED)}


def consumers(broker):
    """How many read the queue of jobs."""
    import aio_pika

    async def ask():
        async with await aio_pika.connect(broker.url) as connection:
            queue = await (await connection.channel()).declare_queue(QUEUES.jobs, passive=True)
            return queue.declaration_result.consumer_count

    return asyncio.run(ask())


def kill_consumer(world):
    """SIGKILL the stack's consumer, and wait until the next one is there."""
    pid = consumer(world)
    os.kill(pid, signal.SIGKILL)
    world.wait(lambda: consumer(world) not in (pid, None))


def consumer(world):
    import psutil

    for pid in world.processes():
        try:
            if "tokka.jobs.process" in psutil.Process(pid).cmdline():
                return pid
        except psutil.Error:
            continue
    return None


def post(world, path, tree, **headers):
    return httpx.post(f"{world.url}{path}", json=tree, headers={**ASYNC, **headers}, **LOCAL)


def settled(world, accepted):
    place = f"{world.url}{accepted.headers['location']}"

    def found():
        return httpx.get(place, **LOCAL).json()

    world.wait(lambda: found()["state"] != "queued")
    return found()


def answered(rows):
    return [(row["label"], round(row["score"], 3), row["model_version"]) for row in rows]
