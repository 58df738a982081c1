"""The process of jobs while its broker is lost: it goes on, and gives up what waits for too long."""

import asyncio
import os
import signal
import time

from tokka.serving.asynchronous.process import Options, run
from tokka.serving.asynchronous.results import Results
from tokka.settings import Settings


def test_a_job_whose_broker_is_lost_is_failed_in_the_end(tmp_path):
    environment = {"TOKKA_HOME": str(tmp_path), "TOKKA_BROKER": "amqp://guest:secret@127.0.0.1:9/"}
    settings = Settings.from_environment(environment)
    results = Results(settings.jobs_url, "helpdesk")
    results.begin("lost", "d")
    results.claim("never confirmed", "d")

    async def until_failed():
        running = asyncio.create_task(run(Options("helpdesk", give_up_hours=0.0), settings))
        deadline = time.monotonic() + 10
        while results.find("lost").state == "queued" and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        await running

    asyncio.run(until_failed())
    kept = results.find("lost")
    assert kept.state == "failed"
    assert "given up: no answer within 0 hours" in kept.answer["error"]
    assert results.find("never confirmed").state == "claimed"
