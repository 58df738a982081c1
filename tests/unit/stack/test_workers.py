"""The fleet's bookkeeping, with real child processes that do next to nothing."""

import json
import os
import signal
import socket
from types import SimpleNamespace

import pytest

from tests.fixtures.waiting import wait_for
from tokka.deployment.record.state import Revision
from tokka.errors import TokkaError
from tokka.processes import process
from tokka.processes.detached import DetachedProcess
from tokka.stack import workers
from tokka.stack.workers import BACKOFF_SECONDS, Fleet, History

ONE, TWO = Revision(version="1", digest="a"), Revision(version="2", digest="b")


class Processes:
    """Starts children that are ready at once, never, or die at once."""

    def __init__(self):
        self.behaviour = {"1": "ready", "2": "ready"}
        self.started, self.pids = [], []

    def spawn(self, revision, ready_file):
        behaviour = self.behaviour[revision.version]
        if behaviour == "refused":
            raise TokkaError("there is no such folder")
        pid = os.fork()
        if pid == 0:
            if behaviour == "broken":
                ready_file.write_text(json.dumps({"error": "the signature does not hold"}))
                os._exit(3)
            be_well(lambda port: ready_file.write_text(json.dumps({"port": port, "grpc_port": None, "seconds": 0.1})))
        self.started.append(revision.version)
        self.pids.append(pid)
        return DetachedProcess(pid, process.identity(pid))


def be_well(announce):
    """Answer whoever asks, for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        announce(listener.getsockname()[1])
        while True:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            connection.close()


@pytest.fixture
def processes():
    return Processes()


@pytest.fixture
def fleet(processes, tmp_path):
    made = Fleet(processes.spawn, count=2, folder=tmp_path / "workers")
    yield made
    made.stop(2)
    assert made.infos == ()
    for pid in processes.pids:
        os.waitpid(pid, 0)


def step_until(fleet, wanted, condition):
    def is_so():
        fleet.step(wanted)
        return condition()

    wait_for(is_so)


def test_as_many_as_wanted_become_ready(fleet, processes):
    step_until(fleet, {ONE, TWO}, lambda: len(fleet.ready(ONE)) == len(fleet.ready(TWO)) == 2)
    assert sorted(processes.started) == ["1", "1", "2", "2"]
    assert fleet.ready(None) == ()


def test_a_killed_worker_is_replaced_at_once(fleet):
    step_until(fleet, {ONE}, lambda: len(fleet.ready(ONE)) == 2)
    os.kill(fleet.ready(ONE)[0].pid, signal.SIGKILL)
    step_until(fleet, {ONE}, lambda: fleet.restarts() == 1 and len(fleet.ready(ONE)) == 2)


def test_a_hung_worker_is_killed_and_replaced_and_one_that_answers_is_not(fleet):
    step_until(fleet, {ONE}, lambda: len(fleet.ready(ONE)) == 2)
    hung, well = (worker.pid for worker in fleet.ready(ONE))
    os.kill(hung, signal.SIGSTOP)
    step_until(fleet, {ONE}, lambda: fleet.restarts() == 1 and len(fleet.ready(ONE)) == 2)
    pids = [worker.pid for worker in fleet.ready(ONE)]
    assert well in pids and hung not in pids


def test_who_is_not_wanted_leaves_first_the_split_and_then_the_machine(fleet):
    step_until(fleet, {ONE, TWO}, lambda: len(fleet.ready(TWO)) == 2)
    fleet.step({ONE})
    assert fleet.ready(TWO) == ()
    assert len(fleet.infos) == 4
    step_until(fleet, {ONE}, lambda: len(fleet.infos) == 2)
    assert fleet.restarts() == 0


def test_a_broken_revision_is_tried_again_ever_more_rarely_and_says_why(fleet, processes):
    processes.behaviour["2"] = "broken"
    step_until(fleet, {ONE, TWO}, lambda: processes.started.count("2") >= 5 and len(fleet.ready(ONE)) == 2)
    assert fleet.problems({ONE, TWO}) == ["version 2: the signature does not hold"]


def test_a_broken_revision_is_started_no_sooner_than_after_its_pause(processes, tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: now[0]))
    processes.behaviour["2"] = "broken"
    fleet = Fleet(processes.spawn, count=1, folder=tmp_path / "workers")
    # The first failure costs no pause.
    step_until(fleet, {TWO}, lambda: fleet.restarts() == 2)
    for number, pause in enumerate(BACKOFF_SECONDS[2:], start=3):
        now[0] += pause - 0.01
        fleet.step({TWO})
        assert len(processes.started) == number - 1
        now[0] += 0.02
        step_until(fleet, {TWO}, lambda number=number: fleet.restarts() == number)
    for pid in processes.pids:
        os.waitpid(pid, 0)


def test_each_failure_in_a_row_lengthens_the_pause_and_a_stable_run_forgets_them():
    history = History()
    pauses = []
    for _ in range(10):
        history.fail(100.0, "it does not start")
        pauses.append(history.not_before - 100.0)
    assert pauses == [*BACKOFF_SECONDS[1:], *[BACKOFF_SECONDS[-1]] * 3]
    history.fail(200.0, stable=True)
    assert (history.failures, history.not_before, history.problem) == (1, 200.0, "it does not start")


def test_what_cannot_be_started_is_a_problem_not_a_crash(fleet, processes):
    processes.behaviour["1"] = "refused"
    fleet.step({ONE})
    assert fleet.problems({ONE}) == ["version 1: there is no such folder"]
    assert fleet.infos == ()
    processes.behaviour["1"] = "ready"
    step_until(fleet, {ONE}, lambda: len(fleet.ready(ONE)) == 2)
    assert fleet.problems({ONE}) == []


def test_one_that_misses_its_health_checks_gets_no_requests_unless_nobody_answers(fleet):
    step_until(fleet, {ONE}, lambda: len(fleet.ready(ONE)) == 2)
    hung, well = (worker.pid for worker in fleet.ready(ONE))
    os.kill(hung, signal.SIGSTOP)
    step_until(fleet, {ONE}, lambda: [one.pid for one in fleet.answering(ONE)] == [well])
    assert not fleet.is_calm({ONE}) and len(fleet.ready(ONE)) == 2
    os.kill(hung, signal.SIGCONT)
    step_until(fleet, {ONE}, lambda: fleet.is_calm({ONE}))
    assert {one.pid for one in fleet.answering(ONE)} == {hung, well} and fleet.restarts() == 0
