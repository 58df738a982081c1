"""The switch of the crash-point suite: it kills where it is told to, once, and is nothing when nobody asks."""

import os
import signal
import subprocess
import sys

from tokka import failpoints

WRITES = """
import os
from tokka import failpoints
for number in range(1, 4):
    with failpoints.at("alias"):
        os.write(1, f"alias {number}\\n".encode())
    with failpoints.at("record"):
        os.write(1, f"record {number}\\n".encode())
"""


def written(plan, variable=True):
    environment = {**os.environ, **({failpoints.VARIABLE: str(plan)} if variable else {})}
    run = subprocess.run([sys.executable, "-c", WRITES], env=environment, capture_output=True, text=True)
    return run.returncode, run.stdout.split("\n")[:-1]


def test_it_kills_before_or_after_the_nth_write_of_a_site_and_once(tmp_path):
    plan = tmp_path / "plan"
    plan.write_text("alias:before:2\n")
    assert written(plan) == (-signal.SIGKILL, ["alias 1", "record 1"])
    assert (tmp_path / "plan.done").exists() and not plan.exists()
    assert written(plan)[0] == 0
    plan.write_text("record:after:2")
    assert written(plan) == (-signal.SIGKILL, ["alias 1", "record 1", "alias 2", "record 2"])


def test_the_next_plan_is_there_when_somebody_dies_of_the_first(tmp_path):
    plan, after = tmp_path / "plan", tmp_path / "plan.next"
    plan.write_text("alias:before:2")
    after.write_text("record:before:1")
    assert written(plan) == (-signal.SIGKILL, ["alias 1", "record 1"])
    assert plan.exists() and not after.exists()
    assert written(plan) == (-signal.SIGKILL, ["alias 1"])
    assert not plan.exists() and written(plan)[0] == 0


def test_without_the_variable_a_plan_is_nobodys(tmp_path):
    (tmp_path / "plan").write_text("alias:before:1")
    assert written(tmp_path / "plan", variable=False) == (
        0,
        [f"{n} {i}" for i in (1, 2, 3) for n in ("alias", "record")],
    )


def test_a_write_that_failed_is_not_over(tmp_path, monkeypatch):
    (tmp_path / "plan").write_text("record:after:1")
    monkeypatch.setattr(failpoints, "_plan", lambda: tmp_path / "plan")
    try:
        with failpoints.at("record"):
            raise ValueError("no")
    except ValueError:
        pass
    assert (tmp_path / "plan").exists()
