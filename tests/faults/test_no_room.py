"""What serves goes on where nothing can be written, where the record cannot be read, and where its server is away.

Prints requests per second and failures of each time: before, during and after.
"""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.visitors import Visitors
from tests.fixtures.waiting import LOCAL, wait_for
from tests.fixtures.world import World
from tokka.stack import stack

SIZE = "48m"


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, which fills up soon."""
    place = Path(tempfile.mkdtemp(prefix="disk-", dir=tmp_path))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("this user cannot mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def served(home, models, **environment):
    """A stack in a home, with version 1 as its champion."""
    world = World(home, free_port(), models, workers=1)
    try:
        world.install("1")
        world.up()
        yield world
    finally:
        world.close()


class Times:
    """Who asks all the time, and what came of it in each named part of the time."""

    def __init__(self, world):
        self.world, self.parts, self._visitors = world, [], Visitors(world.url)

    def __enter__(self):
        self._visitors.__enter__()
        return self

    def __exit__(self, *error):
        self._visitors.__exit__(*error)

    @contextmanager
    def part(self, name, answers=15):
        first, began = len(self._visitors.answers), time.monotonic()
        yield
        least = len(self._visitors.answers) + answers
        wait_for(lambda: len(self._visitors.answers) >= least)
        self.parts.append((name, time.monotonic() - began, self._visitors.answers[first:least]))

    @property
    def failed(self):
        return self._visitors.failed

    def show(self):
        print(f"{'':28}{'seconds':>9}{'answered':>10}{'per s':>8}{'failed':>8}")
        for name, seconds, answers in self.parts:
            failed = sum(bool(one.error) for one in answers)
            print(
                f"{name:28}{seconds:9.1f}{len(answers) - failed:10}{(len(answers) - failed) / seconds:8.1f}{failed:8}"
            )


def fill(disk):
    """Until not a byte is left."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def kill_daemon(world):
    before = world.info().daemon
    os.kill(before, signal.SIGKILL)
    world.wait(lambda: world.info().daemon != before)


def test_a_full_disk_costs_the_log_and_no_answer_and_everything_returns_with_space(disk, models):
    with served(disk / "home", models) as world, Times(world) as times:
        (worker,) = world.workers("1")
        supervisor = world.info().pid
        with times.part("before"):
            world.wait(lambda: world.logged("prediction"))
        with times.part("full"):
            fill(disk)
            world.wait(lambda: min(world.info().unlogged.values()) > 5)
            assert any("cannot be written" in problem for problem in world.info().problems)
        with times.part("full, the daemon killed"):
            kill_daemon(world)
            world.wait(lambda: world.info().serving and min(world.info().unlogged.values()) > 5)
        metrics = httpx.get(f"{world.info().admin}/metrics", **LOCAL).text
        freed = time.time()
        with times.part("space again"):
            (disk / "filler").unlink()
            world.wait(lambda: world.logged("prediction", freed) and world.logged("request", freed))
            world.wait(lambda: not world.info().problems)
        world.challenge("2", 0.5)
        times.show()
        print(f"not logged: {world.info().unlogged}")
        assert times.failed == []
        assert 'tokka_unlogged_total{kind="predictions"}' in metrics
        assert world.info().pid == supervisor
        assert [one.pid for one in world.workers("1")] == [worker.pid]


def test_a_record_that_cannot_be_read_by_a_new_daemon_ends_nothing(tmp_path, models):
    with served(tmp_path / "home", models) as world, Times(world) as times:
        (worker,) = world.workers("1")
        path = world.settings.home / "record.db"
        kept = {each: each.read_bytes() for each in path.parent.glob("record.db*") if each.suffix != ".lock"}
        with times.part("before"):
            pass
        with times.part("unreadable"):
            for each in kept:
                each.write_bytes(b"no database" * 1000)
            world.wait(lambda: any("record" in problem for problem in world.info().problems))
        with times.part("unreadable, daemon killed"):
            kill_daemon(world)
            world.wait(lambda: world.info().serving and any("record" in one for one in world.info().problems))
        with times.part("readable"):
            for each, content in kept.items():
                each.write_bytes(content)
            world.wait(lambda: not world.info().problems)
        world.challenge("2", 0.5)
        times.show()
        assert times.failed == []
        assert [one.pid for one in world.workers("1")] == [worker.pid]
        assert stack.status(world.settings) is not None
