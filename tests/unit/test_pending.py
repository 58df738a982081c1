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
    run = tmp_path / "runs" / f"20260101-000000-{os.getpid()}-retrain"
    (run / pending.TEMPORARY).mkdir(parents=True)
    assert not pending.is_time(tmp_path)
    (run / pending.TEMPORARY).rmdir()
    assert pending.is_time(tmp_path)


def test_a_run_that_was_killed_does_not_go_on(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = tmp_path / f"20260101-000000-{gone.pid}-retrain"
    (run / pending.TEMPORARY).mkdir(parents=True)
    assert not pending.goes_on(run)
