"""Pipelines submitted to a Kubeflow: the fake always, and with the same tests the real one that TOKKA_KFP_HOST names.

    TOKKA_KFP_HOST=http://localhost:8888 pytest tests/cluster/test_submit.py

On the real one, runs, schedules and versions that a test has made are deleted after it.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.kubeflow import FakeKubeflow
from tests.fixtures import small_project
from tokka.params import Params, load_params
from tokka.runs import remote_run, schedule, submission
from tokka.runs.execute import Request
from tokka.runs.kfp_server import KfpServer
from tokka.settings import KubeflowSettings, Settings

ENDED = [("PENDING", {}), ("RUNNING", {"preflight": "RUNNING"}), ("SUCCEEDED", {"preflight": "SUCCEEDED"})]
real = pytest.mark.skipif("TOKKA_KFP_HOST" not in os.environ, reason="TOKKA_KFP_HOST names no Kubeflow Pipelines")


class Kubeflow:
    """A server and a project for it; `fake` is None on a real one."""

    def __init__(self, server: KfpServer, root: Path, fake: FakeKubeflow | None) -> None:
        self.server, self.fake = server, fake
        self.settings = Settings.from_environment({"TOKKA_ROOT": str(root), "TOKKA_HOME": str(root / "home")})
        self.params: Params = load_params(root / "params.yaml", ())
        # A key of its own for each test: a cluster remembers.
        self.epochs, self.made = 1 + uuid.uuid4().int % 999, list[str]()

    def request(self, **more: object) -> Request:
        finetuning = self.params.finetuning.model_copy(update={"epochs": self.epochs})
        params = self.params.model_copy(update={"finetuning": finetuning})
        return Request.model_validate({"params": params, "pipeline": "specialise", **more})

    def submit(self, **more: object) -> submission.Submitted:
        done = submission.submit(self.request(**more), self.settings, self.server)
        self.made.append(done.run_id)
        return done

    def end(self, run_id: str) -> None:
        """Terminate a run and wait until it is."""
        self.server.call("end", self.server.service("Run").run_service_terminate_run, run_id)
        remote_run.watch(self.server, run_id, lambda event: None)

    def clean(self) -> None:
        """Delete what was made: schedules, then runs, of which those under way are ended, then their versions."""
        schedule.unschedule("specialise", self.server)
        runs, pipelines = self.server.service("Run"), self.server.service("Pipeline")
        made = {run_id: self.server.call("get", runs.run_service_get_run, run_id) for run_id in self.made}
        for run_id, run in made.items():
            if str(run.state) not in remote_run.ENDED:
                self.end(run_id)
            self.server.call("delete", runs.run_service_delete_run, run_id)
        sources = {run.pipeline_version_reference.pipeline_version_id: run for run in made.values()}
        for version_id, run in sources.items():
            delete = pipelines.pipeline_service_delete_pipeline_version
            self.server.call("delete", delete, run.pipeline_version_reference.pipeline_id, version_id)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    made = small_project.make(folder / "root", mark=uuid.uuid4().hex)
    small_project.frozen(made, folder / "compiled")
    return made


@pytest.fixture(params=["fake", pytest.param("real", marks=real)])
def kubeflow(request: pytest.FixtureRequest, root: Path) -> Iterator[Kubeflow]:
    if request.param == "real":
        found = Kubeflow(KfpServer(KubeflowSettings.from_environment()), root, None)
        yield found
        found.clean()
        return
    with FakeKubeflow() as fake:
        settings = KubeflowSettings.from_environment({"TOKKA_KFP_HOST": fake.host})
        yield Kubeflow(KfpServer(settings), root, fake)


def test_a_second_submission_of_a_key_finds_the_first_run(kubeflow):
    first, second = kubeflow.submit(), kubeflow.submit()
    assert first.created
    assert not second.created
    assert (first.run_id, first.version, first.name) == (second.run_id, second.version, second.name)
    assert first.name == f"specialise-{first.key[:12]}"


def test_another_key_is_another_run_of_the_same_version(kubeflow):
    first = kubeflow.submit()
    kubeflow.epochs += 1
    second = kubeflow.submit()
    assert second.created
    assert first.run_id != second.run_id
    assert first.version == second.version


def test_a_run_that_was_terminated_may_be_submitted_again(kubeflow):
    first = kubeflow.submit()
    kubeflow.end(first.run_id)
    second, third = kubeflow.submit(), kubeflow.submit()
    assert second.created
    assert second.run_id != first.run_id
    assert third.run_id == second.run_id


def test_a_run_is_followed_to_the_end_that_tokka_run_would_have(kubeflow):
    if kubeflow.fake:
        kubeflow.fake.script = [*ENDED[:2], ("SUCCEEDED", {"preflight": "SUCCEEDED", "condition-1.gate": "SUCCEEDED"})]
    started, seen = kubeflow.submit(cause="person"), []
    if kubeflow.fake:
        kubeflow.fake.write_log(started.run_id, "preflight", small_project.said(small_project.PREFLIGHT))
        kubeflow.fake.write_log(started.run_id, "condition-1.gate", small_project.said(small_project.GATE))
    pause = {"pause": lambda seconds: None} if kubeflow.fake else {}
    final, error = remote_run.follow(kubeflow.server, started.run_id, seen.append, **pause)
    assert error is None
    assert [(step["name"], step["status"]) for step in final["steps"]] == [("preflight", "done"), ("gate", "done")]
    assert final["key"] == "abc"
    assert final["gate"] == {"verdict": "pass", "reasons": ["as good as the champion"]}
    assert [event["event"] for event in seen if event["step"] == "gate"][-1] == "done"
    assert started.run_id in final["kubeflow"]


def test_a_run_is_found_by_name_and_by_id_and_has_its_steps(kubeflow):
    started = kubeflow.submit()
    by_id = remote_run.find(kubeflow.server, started.run_id)
    by_name = remote_run.find(kubeflow.server, started.name)
    assert by_id.run_id == by_name.run_id == started.run_id
    assert started.name in [run.display_name for run in remote_run.runs(kubeflow.server)]
    assert remote_run.overview(kubeflow.server, by_id)["name"] == started.name


def test_a_schedule_is_made_changed_and_deleted_however_often_one_asks(kubeflow):
    def plan(cron: str) -> schedule.Scheduled:
        return schedule.schedule(kubeflow.request(cause="schedule"), cron, kubeflow.settings, kubeflow.server)

    def own() -> list[schedule.Scheduled]:
        return [one for one in schedule.listed(kubeflow.server) if one.pipeline == "specialise"]

    kubeflow.submit()
    first, same, changed = plan("0 0 3 1 1 *"), plan("0 0 3  1 1 *"), plan("0 30 4 1 1 *")
    assert [one.change for one in (first, same, changed)] == ["created", "unchanged", "changed"]
    assert first.recurring_run_id == same.recurring_run_id
    (only,) = own()
    assert (only.recurring_run_id, only.cron, only.enabled) == (changed.recurring_run_id, "0 30 4 1 1 *", True)
    assert [one.change for one in schedule.unschedule("specialise", kubeflow.server)] == ["deleted"]
    assert schedule.unschedule("specialise", kubeflow.server) == []
    assert own() == []


def test_a_schedule_takes_the_newest_version_one_run_at_a_time_and_catches_nothing_up(kubeflow):
    kubeflow.submit()
    made = schedule.schedule(kubeflow.request(cause="schedule"), "0 0 3 1 1 *", kubeflow.settings, kubeflow.server)
    get = kubeflow.server.service("RecurringRun").recurring_run_service_get_recurring_run
    found = kubeflow.server.call("look", get, made.recurring_run_id)
    assert (found.max_concurrency, found.no_catchup) == ("1", True)
    assert not found.pipeline_version_reference.pipeline_version_id
    assert found.runtime_config.parameters["cause"] == "schedule"
