"""Which service is started when: the table's rules, and the one loop over processes that are only pretended."""

import socket
import sys
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import wait_for
from tokka.deployment.record.state import Phase, Revision, State
from tokka.errors import UsageError
from tokka.gateway.exposure import Exposure
from tokka.params import parse_params
from tokka.processes.detached import adopting
from tokka.settings import Settings
from tokka.stack import services
from tokka.stack.services import Facts, Run, Service, Services, is_due, table

CHAMPION, CHALLENGER = Revision(version="1", digest="a"), Revision(version="2", digest="b")
SECONDS = st.floats(0, 1e6)
FACTS = st.builds(
    Facts, settled=st.booleans(), calm=st.booleans(), abandoned=st.booleans(),
    missing=st.booleans(), registered=st.booleans(), unseen=st.booleans(), incomplete=st.booleans(),
    untidy=st.booleans(),
)  # fmt: skip
PHASE = st.sampled_from(get_args(Phase))


def in_phase(phase, rollout="r1"):
    return State.model_construct(
        endpoint="helpdesk", generation=3, phase=phase, rollout=rollout, champion=CHAMPION, challenger=CHALLENGER
    )


def make_table(tmp_path, **serving):
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path), "TOKKA_PORT": str(free_port())})
    return settings, table(settings, parse_params({"serving": serving}), Exposure(grpc_port=1, authentication=True))


@pytest.mark.parametrize(("worker", "is_there"), [("stack", True), ("separate", False)])
def test_a_worker_for_pushes_runs_where_it_is_asked_for(tmp_path, worker, is_there):
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
    params = parse_params({"triggers": {"worker": worker}})
    found = table(settings, params, Exposure(grpc_port=1, authentication=True))
    assert ("triggers" in {one.name for one in found}) is is_there


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """Name to rule of every service."""
    found = make_table(tmp_path_factory.mktemp("home"), asynchronous={"broker": "amqp://127.0.0.1/"})[1]
    return {one.name: one.wanted for one in found}


@given(FACTS, PHASE)
def test_what_needs_mlflow_never_runs_beside_a_rollout_that_moves_unless_a_model_is_missing(wanted, facts, phase):
    upkeep = wanted["upkeep"](in_phase(phase), facts)
    assert not upkeep or facts.registered
    if facts.registered and facts.missing:
        assert upkeep
    elif phase != "idle" and not facts.calm:
        assert not upkeep
    assert wanted["mlflow"](in_phase(phase), facts) == (facts.registered and facts.settled)


@pytest.mark.parametrize(("review", "runs"), [("required", True), ("automatic", False)])
def test_the_first_version_is_looked_at_before_anything_serves_where_a_person_decides(tmp_path, review, runs):
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
    rows = table(settings, parse_params({"registry": {"review": review}}), Exposure(grpc_port=1, authentication=True))
    upkeep = next(one for one in rows if one.name == "upkeep")
    assert upkeep.wanted(State(endpoint="helpdesk"), Facts(registered=True, settled=True)) is runs
    assert not upkeep.wanted(State(endpoint="helpdesk"), Facts(settled=True))


@given(FACTS, PHASE)
def test_a_watch_is_taken_up_when_its_owner_died_and_what_is_asked_by_users_always_runs(wanted, facts, phase):
    state = in_phase(phase)
    assert wanted["drive"](state, facts) == (phase == "ab" or (phase == "watch" and facts.abandoned))
    assert wanted["authority"](state, facts) and wanted["jobs"](state, facts)
    assert not wanted["rollout-view"](state, facts) or facts.calm


@given(FACTS, SECONDS, SECONDS, SECONDS, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["r1", "r2"]))
def test_a_service_is_due_when_it_is_wanted_and_does_not_run_and_not_too_soon(
    facts, now, started, retry, runs, wanted, once, rollout
):
    service = Service("one", (), lambda state, facts: wanted, retry_s=retry, once=once)
    run = Run(object() if runs else None, started=started, rollout=rollout)
    due = is_due(service, run, in_phase("idle"), facts, now)
    assert due == (wanted and not runs and now - started >= retry and not (once and rollout == "r1"))
    assert is_due(service, Run(), in_phase("idle"), facts, now) == wanted


@given(FACTS, PHASE)
def test_details_are_never_measured_beside_a_rollout(wanted, facts, phase):
    details = wanted["details"](in_phase(phase), facts)
    assert not details or (facts.incomplete and facts.calm)
    assert not details or phase in ("idle", "ab")


def test_the_table_has_what_the_settings_ask_for(tmp_path):
    _, found = make_table(tmp_path, asynchronous={"broker": "amqp://127.0.0.1/"})
    names = {one.name for one in found}
    assert names == {"upkeep", "archive", "rollout-view", "drive", "details", "mlflow", "authority", "jobs"}
    assert {one.name for one in found if one.lifetime == "stack"} == {"upkeep", "mlflow"}
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": "http://there:5000"})
    found = table(settings, parse_params({}), Exposure(grpc_port=1))
    assert not names & {one.name for one in found} - {"upkeep", "archive", "rollout-view", "drive", "details"}
    assert settings.page == "http://there:5000" and services.has_registry(settings)


def test_a_broker_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(UsageError, match="amqp"):
        make_table(tmp_path, asynchronous={"broker": "smtp://127.0.0.1/"})


class Loop:
    """The loop over one service, with real processes that do next to nothing."""

    def __init__(self, tmp_path, code, **more):
        self.settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
        for folder in ("stack", "logs"):
            (tmp_path / folder).mkdir(exist_ok=True)
        command = (sys.executable, "-c", f"import sys, time; {code}", "{rollout}")
        self.service = Service("one", command, lambda state, facts: True, **more)
        # Stands still until a test moves it.
        self.now = 100.0
        self.services = self.make()

    def make(self):
        return Services((self.service,), self.settings, adopting(), lambda: self.now)

    def until(self, condition):
        def is_so():
            self.services.step(in_phase("idle"), Facts())
            return condition()

        wait_for(lambda: condition() or is_so())


def test_one_that_fails_is_a_problem_and_is_tried_again_after_a_while(tmp_path):
    loop = Loop(tmp_path, f"open({str(tmp_path / 'lives')!r}, 'a').write(sys.argv[1]); sys.exit(3)",
                retry_s=10.0, problem="nothing works")  # fmt: skip
    for lives in range(1, 4):
        loop.until(lambda: loop.services.pids)
        loop.until(lambda: not loop.services.pids)
        assert (tmp_path / "lives").read_text() == "r1" * lives
        assert loop.services.problems == ["nothing works: the process ended with code 3: see logs/one.log"]
        loop.now += 9.9
        loop.services.step(in_phase("idle"), Facts())
        assert not loop.services.pids
        loop.now += 0.2


def test_a_problem_is_over_once_the_next_process_has_lived_for_a_while(tmp_path):
    code = f"import os; os.path.exists({str(tmp_path / 'mended')!r}) or sys.exit(3); time.sleep(60)"
    loop = Loop(tmp_path, code, retry_s=1.0, problem="nothing works")
    loop.until(lambda: loop.services.problems)
    (tmp_path / "mended").touch()
    loop.now += 1.0
    loop.until(lambda: loop.services.pids)
    assert loop.services.problems
    loop.now += services.STABLE_SECONDS + 0.1
    loop.services.step(in_phase("idle"), Facts())
    assert loop.services.problems == []
    loop.services.stop()


def test_at_most_one_runs_and_it_is_ended_with_the_others(tmp_path):
    loop = Loop(tmp_path, "time.sleep(60)")
    loop.until(lambda: loop.services.pids)
    pids = list(loop.services.pids)
    for _ in range(3):
        loop.services.step(in_phase("idle"), Facts())
        assert list(loop.services.pids) == pids
    loop.services.stop()
    assert loop.services.pids == []


def test_one_that_may_be_interrupted_is_killed_when_it_is_not_wanted(tmp_path):
    loop = Loop(tmp_path, "time.sleep(60)", interrupted=True)
    loop.service = replace(loop.service, wanted=lambda state, facts: state.phase == "idle")
    loop.services = loop.make()
    loop.until(lambda: loop.services.pids)
    loop.services.step(in_phase("shadow"), Facts())
    assert loop.services.pids == []


def test_one_of_the_stack_is_taken_over_by_a_successor(tmp_path):
    loop = Loop(tmp_path, "time.sleep(60)", lifetime="stack")
    loop.until(lambda: loop.services.pids)
    successor = loop.make()
    assert successor.pids == loop.services.pids
    successor.stop()
    assert loop.make().pids == []


def test_a_taken_port_is_a_problem_and_nothing_is_started(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        loop = Loop(tmp_path, "time.sleep(60)", port=port, problem="no page", retry_s=0.0)
        loop.services.step(in_phase("idle"), Facts())
        assert loop.services.pids == [] and f"no page: port {port} is taken" in loop.services.problems[0]
    loop.until(lambda: loop.services.pids)
    loop.services.stop()


@given(FACTS)
def test_who_is_told_costs_a_process_only_when_something_is_to_be_told(facts):
    settings = Settings.from_environment({})
    params = parse_params({"notifications": {"receivers": [{"name": "team"}]}})
    rows = {one.name: one for one in table(settings, params, Exposure(grpc_port=1))}
    assert rows["notify"].wanted(in_phase("idle"), facts) == facts.untold
    assert "notify" not in {one.name for one in table(settings, parse_params({}), Exposure(grpc_port=1))}
