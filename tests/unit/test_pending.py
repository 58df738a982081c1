"""When what waits is worked on: never beside a run, and a run that was killed does not count."""

import os
import subprocess
import sys

from tokka import pending


def test_it_is_time_when_something_waits_and_no_run_goes_on(tmp_path):
    assert not pending.is_time(tmp_path)
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "one.json").write_text("{}")
    assert pending.is_time(tmp_path)
    run = tmp_path / "runs" / "20260101-000000-1-retrain"
    run.mkdir(parents=True)
    held = pending.hold(run)
    assert not pending.is_time(tmp_path)
    os.close(held)
    assert pending.is_time(tmp_path)


def test_a_run_goes_on_until_its_launcher_and_its_pipeline_have_ended(tmp_path):
    run = tmp_path / "20260101-000000-1-retrain"
    run.mkdir()
    assert not pending.goes_on(run)
    held = pending.hold(run)
    pipeline = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(held,))
    os.close(held)
    assert pending.goes_on(run)
    pipeline.kill()
    pipeline.communicate()
    assert not pending.goes_on(run)
