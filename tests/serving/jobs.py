"""Short words for what tests of asynchronous jobs do: send them, wait for them, kill who works on them."""

import asyncio
import os
import signal
import time

import httpx

from tokka.serving.asynchronous.messages import decode_result
from tokka.serving.asynchronous.transport import Queues, Transport, open_transport

ASYNC = {"prefer": "respond-async"}
QUEUES = Queues("helpdesk")
NOT_COUNTED = ("tokka_job_duration_seconds_bucket", "tokka_job_duration_seconds_sum", "tokka_jobs_database_up")


async def under_fire(world, url, bodies, *, unique, kills):
    """Publish everything, kill consumers and workers meanwhile, and collect the replies by job."""
    from faststream.rabbit import RabbitBroker, RabbitQueue

    replies = {}

    async def collect(message):
        found = decode_result(message)
        replies.setdefault(found["id"], []).append(found)

    async def raw(message):
        return bytes(message.body)

    listener = RabbitBroker(url, logger=None)
    listener.subscriber(RabbitQueue("replies", durable=True), decoder=raw, no_reply=True)(untyped(collect))
    await listener.start()
    transport = open_transport(url, QUEUES, concurrent=1)
    publishing = asyncio.create_task(publish(transport, bodies))
    for number in range(kills):
        before = len(replies)
        await until(lambda: len(replies) >= min(before + 40, unique))  # noqa: B023
        await asyncio.to_thread(kill_consumer, world)
        if number < 2:
            world.kill("1")
    await publishing
    await until(lambda: len(replies) == unique, 60)
    await asyncio.sleep(1.0)
    await listener.stop()
    return replies


def untyped(function):
    from faststream.rabbit import RabbitMessage

    async def take(message: RabbitMessage) -> None:
        await function(bytes(message.body))

    return take


async def publish(transport: Transport, bodies):
    await transport.start()
    for name, body in bodies:
        await transport.publish(body, name)
    await transport.stop()


async def drain(url, queue):
    """Everything that lies in a queue now, or comes within a moment."""
    import aio_pika

    connection = await aio_pika.connect(url)
    found, quiet = [], 0
    async with connection:
        channel = await connection.channel()
        source = await channel.get_queue(queue)
        while quiet < 10:
            message = await source.get(fail=False, no_ack=True)
            if message is None:
                quiet += 1
                await asyncio.sleep(0.1)
            else:
                found.append(message.body)
    return found


async def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)


def counted(world):
    """The series of jobs in /metrics, without the histograms' buckets and sums."""
    text = httpx.get(f"http://127.0.0.1:{world.settings.admin_port}/metrics", trust_env=False).text
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
            if "tokka.serving.asynchronous.process" in psutil.Process(pid).cmdline():
                return pid
        except psutil.Error:
            continue
    return None


def post(world, path, tree, **headers):
    return httpx.post(f"{world.url}{path}", json=tree, headers={**ASYNC, **headers}, trust_env=False, timeout=10)


def settled(world, accepted):
    place = f"{world.url}{accepted.headers['location']}"
    world.wait(lambda: httpx.get(place, trust_env=False).json()["state"] != "queued")
    return httpx.get(place, trust_env=False).json()


def answered(rows):
    return [(row["label"], round(row["score"], 3), row["model_version"]) for row in rows]
