"""The process of jobs while its broker is lost: it goes on, and gives up what waits for too long; and its secret."""

import asyncio
import json
import os
import signal
import subprocess
import sys

from tests.fixtures.waiting import PATIENCE_S, until
from tokka import files
from tokka.jobs.job_store import JobStore
from tokka.jobs.process import run, secret_of
from tokka.params import Params, parse_params
from tokka.sections_serving import Asynchronous, Serving
from tokka.settings import Settings


def make_params() -> Params:
    return parse_params({"registry": {"model": "helpdesk"}})


def make_command(folder):
    files.write_json(folder / "params.json", make_params().model_dump(mode="json"))
    return [sys.executable, "-m", "tokka.jobs.process", str(folder)]


def test_a_job_whose_broker_is_lost_is_failed_in_the_end(tmp_path):
    environment = {"TOKKA_HOME": str(tmp_path), "TOKKA_BROKER": "amqp://guest:secret@127.0.0.1:9/"}
    settings = Settings.from_environment(environment)
    serving = Serving().model_copy(update={"asynchronous": Asynchronous().model_copy(update={"give_up_hours": 0.0})})
    params = make_params().model_copy(update={"serving": serving})
    results = JobStore(settings.jobs_url, "helpdesk")
    results.start("lost", "d")
    results.claim("never confirmed", "d")

    async def until_failed():
        running = asyncio.create_task(run(params, settings))
        await until(lambda: results.find("lost").state != "queued")
        os.kill(os.getpid(), signal.SIGTERM)
        await running

    asyncio.run(until_failed())
    kept = results.find("lost")
    assert kept.state == "failed"
    assert "given up: no answer within 0 hours" in kept.answer["error"]
    assert results.find("never confirmed").state == "claimed"


def test_every_line_that_it_writes_is_an_object_without_the_password(tmp_path):
    environment = {**os.environ, "TOKKA_HOME": str(tmp_path), "TOKKA_BROKER": "amqp://guest:secret@127.0.0.1:9/"}
    process = subprocess.Popen(make_command(tmp_path), env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = [json.loads(process.stderr.readline())]
    while "the broker does not answer" not in lines[-1]["message"]:
        lines.append(json.loads(process.stderr.readline()))
    process.terminate()
    lines += map(json.loads, process.communicate(timeout=PATIENCE_S)[1].splitlines())
    assert {(line["process"], line["endpoint"]) for line in lines} == {("jobs", "helpdesk")}
    assert lines[-1]["message"].startswith("ending")
    assert "secret" not in json.dumps(lines)


def test_a_mistake_is_a_line_with_what_to_do(tmp_path):
    environment = {**os.environ, "TOKKA_HOME": str(tmp_path), "TOKKA_BROKER": "redis://guest:secret@127.0.0.1/"}
    ended = subprocess.run(make_command(tmp_path), env=environment, capture_output=True, text=True, check=False)
    (line,) = map(json.loads, ended.stderr.splitlines())
    assert (ended.returncode, "amqp" in line["message"], "TOKKA_BROKER" in line["hint"]) == (2, True, True)
    assert "secret" not in ended.stderr


def test_the_secret_is_made_once_and_is_private(tmp_path):
    path = tmp_path / "jobs.secret"
    assert secret_of(path) == secret_of(path)
    assert (len(secret_of(path)), path.stat().st_mode & 0o777) == (32, 0o600)
