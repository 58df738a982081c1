"""Asynchronous jobs on a real RabbitMQ and a real stack: nothing lost, nothing double, whoever is killed."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fixtures.waiting import LOCAL, PATIENCE_S, until
from tests.jobs.broker import SERVER, PrivateBroker
from tests.jobs.jobs import (
    QUEUES,
    answered,
    consumers,
    counted,
    drain,
    make_load,
    post,
    rabbit_replies,
    require_all_once,
    settled,
    under_fire,
    world_with,
)
from tokka.errors import TokkaError
from tokka.jobs.broker import Disposition, Queues
from tokka.jobs.consumer import Consumer
from tokka.jobs.job_store import JobStore
from tokka.jobs.messages import Job, encode
from tokka.jobs.process import open_transport

pytestmark = pytest.mark.skipif(
    not SERVER.exists(), reason="RabbitMQ is not installed (apt-get install rabbitmq-server): jobs were NOT tested"
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    made = PrivateBroker(tmp_path_factory.mktemp("rabbit"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def world(models, tmp_path_factory, broker):
    with world_with(broker, models, tmp_path_factory.mktemp("home"), max_tokens=4096, threshold=0.99) as made:
        yield made


def test_an_answer_that_can_wait_is_fetched_later(world):
    accepted = post(world, "/predict", {"texts": ["where is my card?", "my printer is on fire"]})
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    assert accepted.headers["location"] == f"/jobs/{accepted.json()['job']}"
    found = settled(world, accepted)
    now = httpx.post(
        f"{world.url}/predict", json={"texts": ["where is my card?", "my printer is on fire"]}, **LOCAL
    ).json()
    assert found["state"] == "done"
    assert answered(found["result"]["predictions"]) == answered(now["predictions"])


def test_what_the_model_is_unsure_of_is_said_later_too_and_a_set_is_refused_in_words(world):
    found = settled(world, post(world, "/predict", {"text": "where is my card?"}))["result"]
    assert found["unsure"] is (found["score"] < 0.99)
    for path, body in (
        ("/predict", {"text": "x", "level": 0.9}),
        (
            "/v2/models/helpdesk/infer",
            {
                "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}],
                "parameters": {"level": 0.9},
            },
        ),
    ):
        refused = post(world, path, body)
        assert (refused.status_code, "leave level out" in refused.json()["error"]) == (400, True)


def test_the_v2_protocol_gives_a_v2_answer(world):
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["where is my card?", "refund"]}
    found = settled(world, post(world, "/v2/models/helpdesk/infer", {"inputs": [tensor]}))
    assert [output["name"] for output in found["result"]["outputs"]] == ["prediction_id", "label", "score", "unsure"]
    assert found["result"]["model_version"] == "1"
    assert post(world, "/v2/models/another/infer", {"inputs": [tensor]}).status_code == 404
    chosen = {"id": "order-7", "inputs": [tensor], "outputs": [{"name": "label"}]}
    later = settled(world, post(world, "/v2/models/helpdesk/infer", chosen))["result"]
    now = httpx.post(f"{world.url}/v2/models/helpdesk/infer", json=chosen, **LOCAL).json()
    assert later == now
    assert (later["id"], [output["name"] for output in later["outputs"]]) == ("order-7", ["label"])


def test_the_most_probable_classes_are_named_on_request(world):
    found = settled(world, post(world, "/predict", {"text": "where is my card?", "top_k": 2}))["result"]
    assert found["top"][0] == {"label": found["label"], "score": found["score"]}
    assert len(found["top"]) == 2
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["where is my card?"]}
    tree = {"inputs": [tensor], "parameters": {"top_k": 2}, "outputs": [{"name": "top_labels"}]}
    outputs = settled(world, post(world, "/v2/models/helpdesk/infer", tree))["result"]["outputs"]
    assert [output["data"] for output in outputs] == [[one["label"] for one in found["top"]]]


def test_what_would_be_refused_now_is_refused_now(world):
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["where is my card?", "refund"]}
    for tree in (
        {"inputs": "text"},
        {"inputs": [{**tensor, "shape": [3]}]},
        {"inputs": [{**tensor, "datatype": "FP32"}]},
        {"inputs": [tensor, {**tensor, "name": "text_pair"}]},
        {"inputs": [tensor], "outputs": [{"name": "value"}]},
        {"inputs": [tensor], "id": 7},
    ):
        place = "/v2/models/helpdesk/infer"
        statuses = {
            post(world, place, tree).status_code,
            httpx.post(f"{world.url}{place}", json=tree, **LOCAL).status_code,
        }
        assert (tree, statuses) == (tree, {400})
    assert post(world, "/predict", {"text": "a", "text_pair": "b"}).status_code == 400


def test_an_idempotency_key_is_one_job(world):
    key = {"idempotency-key": uuid.uuid4().hex}
    names = {post(world, "/predict", {"text": "once"}, **key).json()["job"] for _ in range(5)}
    assert len(names) == 1
    assert post(world, "/predict", {"text": "another"}, **key).status_code == 422
    at_once = [{"idempotency-key": uuid.uuid4().hex}] * 8
    with ThreadPoolExecutor(8) as pool:
        texts = [{"text": f"order {number % 2}"} for number in range(8)]
        answers = list(pool.map(lambda tree, more: post(world, "/predict", tree, **more), texts, at_once))
    assert sorted(answer.status_code for answer in answers) == [202] * 4 + [422] * 4
    assert len({answer.json()["job"] for answer in answers if answer.status_code == 202}) == 1
    # Where nobody is asked who they are, the gateway takes credentials away: all callers are one.
    assert post(world, "/predict", {"text": "another"}, **key, **{"x-api-key": "b"}).status_code == 422


def test_what_the_model_refuses_is_said_and_not_tried_again(world):
    found = settled(world, post(world, "/predict", {"texts": ["word " * 200] * 256}))
    assert found["state"] == "failed"
    assert "tokens" in found["error"]
    assert httpx.get(f"{world.url}/jobs/nobody", **LOCAL).status_code == 404
    assert httpx.post(f"{world.url}/jobs/nobody", **LOCAL).status_code == 405
    assert post(world, "/predict", {"text": 5}).status_code == 400


def test_a_user_whose_name_is_no_ascii_gets_an_answer(world):
    for user in (b"a\xffb", "jörg".encode("latin-1"), "jörg".encode()):
        accepted = post(world, "/predict", {"text": "where is my card?"}, **{"x-user-id": user})
        assert settled(world, accepted)["state"] == "done"


def test_without_the_preference_the_answer_comes_at_once(world):
    assert world.ask().status_code == 200


def test_a_version_by_name_is_answered_at_once_for_it_may_be_gone_later(world):
    tree = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["where is my card?"]}]}
    statuses = [post(world, f"/v2/models/helpdesk/versions/{name}/infer", tree).status_code for name in ("1", "99")]
    assert statuses == [200, 404]


def test_the_description_says_that_an_answer_may_wait_and_the_log_is_made_of_objects(world):
    paths = httpx.get(f"{world.url}/openapi.json", **LOCAL).json()["paths"]
    assert "/jobs/{id}" in paths and "202" in paths["/predict"]["post"]["responses"]
    lines = [json.loads(line) for line in (world.settings.home / "logs" / "jobs.log").read_text().splitlines()]
    assert {line["process"] for line in lines} <= {"jobs"}


def test_jobs_are_counted_in_the_metrics(world):
    before = counted(world)
    done = settled(world, post(world, "/predict", {"text": "one"}))
    failed = settled(world, post(world, "/predict", {"texts": ["word " * 200] * 256}))
    assert (done["state"], failed["state"]) == ("done", "failed")
    now = counted(world)
    assert {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name, 0)} == {
        'tokka_jobs_total{event="accepted",version="none"}': 2.0,
        'tokka_jobs_total{event="done",version="1"}': 1.0,
        'tokka_jobs_total{event="failed",version="none"}': 1.0,
        'tokka_job_duration_seconds_count{version="1"}': 1.0,
    }
    assert now["tokka_jobs_waiting"] == 0.0


def test_a_consumer_of_another_home_is_refused_or_shares_the_results(world, broker, tmp_path):
    """The stack's own consumer is stopped meanwhile, so that the other one does the work."""
    environment = {**os.environ, **world.settings.environment(), "TOKKA_HOME": str(tmp_path / "another")}
    command = [sys.executable, "-m", "tokka.cli.main", "consume", "--set", "registry.model=helpdesk"]
    alone = {name: value for name, value in environment.items() if name != "TOKKA_JOBS_URL"}
    refused = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    assert (refused.returncode, "TOKKA_JOBS_URL" in refused.stderr) == (2, True)
    (tmp_path / "params.yaml").write_text("{}")
    other = subprocess.Popen([*command, "--params", str(tmp_path / "params.yaml")], env=environment)
    try:
        world.wait(lambda: consumers(broker) == 2)
        accepted = [post(world, "/predict", {"text": f"order {number}"}) for number in range(40)]
        assert {settled(world, one)["state"] for one in accepted} == {"done"}
    finally:
        other.terminate()
        other.wait(PATIENCE_S)
    assert not (tmp_path / "another" / "jobs.db").exists()


def test_duplicates_poison_and_kills_lose_nothing_and_double_nothing(world, broker):
    bodies = make_load(unique=400, copies=80, poison=8)
    replies = asyncio.run(under_fire(world, broker.url, bodies, rabbit_replies, unique=400, kills=3))
    dead = asyncio.run(drain(broker.url, QUEUES.dead, at_least=8))
    require_all_once(world, bodies, replies, dead)
    assert len(dead) == 8


@pytest.mark.parametrize(("action", "deliveries", "dead"), [("defer", 26, []), ("retry", 21, [b"a"])])
def test_who_waits_is_not_given_up_and_who_always_fails_is(broker, action, deliveries, dead):
    queues, seen, given_up = Queues(f"other-{action}"), [], []

    async def handle(body):
        seen.append(body)
        return Disposition(action if len(seen) < 26 else "ack")

    async def give_up(body, why):
        given_up.append(body)
        return Disposition("ack")

    async def run():
        transport = open_transport(broker.url, queues, concurrent=4)
        transport.consume(handle, give_up)
        await transport.start()
        await transport.publish(b"a", "a")
        await until(lambda: len(seen) == deliveries)
        await until(lambda: len(given_up) == len(dead))
        found = await drain(broker.url, queues.dead, at_least=len(dead))
        await transport.stop()
        return found

    assert asyncio.run(run()) == dead == given_up
    assert len(seen) == deliveries


def test_a_job_that_the_broker_gives_up_by_itself_does_not_wait_for_ever(broker, tmp_path):
    """As after kills before a consumer could note anything: the message is returned until the broker has enough."""
    queues, results = Queues("given-up"), JobStore(f"sqlite:///{tmp_path}/jobs.db", "given-up")
    job, told = Job(id="a", model="given-up", texts=["x"]), []
    results.start("a", job.digest())
    handler = Consumer(results, None, tries=3)

    async def die(body):
        return Disposition("retry")

    async def give_up(body, why):
        told.append(await handler.give_up(body, why))
        return told[-1]

    async def run():
        transport = open_transport(broker.url, queues, concurrent=4)
        transport.consume(die, give_up)
        await transport.start()
        await transport.publish(encode(job), "a")
        await until(lambda: told)
        await transport.stop()

    asyncio.run(run())
    kept = results.find("a")
    assert (kept.state, kept.answer) == (
        "failed", {"error": "given up by the broker: delivered 20 times, and never settled"}
    )  # fmt: skip


def test_a_queue_of_another_kind_is_said_to_be_one(broker):
    queues = Queues("of-another-kind")

    async def run():
        import aio_pika

        async with await aio_pika.connect(broker.url) as connection:
            await (await connection.channel()).declare_queue(queues.jobs, durable=True)
        transport = open_transport(broker.url, queues, concurrent=4)
        transport.consume(None, None)
        try:
            await transport.start()
        finally:
            await transport.stop()

    with pytest.raises(TokkaError, match="other properties") as refused:
        asyncio.run(run())
    assert "delete it" in refused.value.hint


def test_a_broker_that_is_killed_and_comes_back_loses_no_confirmed_job(world, broker):
    accepted = [post(world, "/predict", {"text": f"order {number}"}) for number in range(30)]
    broker.stop()
    refused = post(world, "/predict", {"text": "nobody is there"})
    broker.start()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert {one.status_code for one in accepted} == {202}
    assert {settled(world, one)["state"] for one in accepted} == {"done"}
    world.wait(lambda: post(world, "/predict", {"text": "are you back?"}).status_code == 202)
