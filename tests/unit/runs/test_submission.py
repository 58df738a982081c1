"""A submission: its key, what the run is given, and two that come at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tokka.deployment.record.claims import Claims
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision
from tokka.errors import TokkaError, UsageError
from tokka.params import load_params, parse_params, written
from tokka.runs import ir
from tokka.runs.execute import Request, request_key
from tokka.runs.kfp_server import KfpServer
from tokka.runs.submission import (
    CLUSTER_FILE,
    create_run,
    find_run,
    remote_arguments,
    remote_snapshot,
    submission_key,
    submit,
    submitted,
)
from tokka.runs.upload import upload_pipeline
from tokka.settings import KubeflowSettings
from tokka.steps import preflight


@pytest.fixture
def params(settings):
    return load_params(settings.root / "params.yaml", ())


def test_its_key_is_that_of_the_same_run_on_this_machine(settings, params):
    request = Request(params=params, pipeline="specialise")
    assert submission_key(request, settings) == request_key(request, settings, Record(settings.record_url))


def test_a_rollout_has_a_key_of_what_it_rolls_out(settings, params):
    def key(run_id: str, override: str = "") -> str:
        return submission_key(Request(params=params, pipeline="rollout", run_id=run_id, override=override), settings)

    assert key("a") == key("a")
    assert len({key("a"), key("b"), key("a", "because")}) == 3
    with pytest.raises(UsageError, match="--run-id"):
        key("")


def test_a_search_is_another_one_with_other_ranges_or_more_trials(settings, params):
    def asked(**search) -> Request:
        return Request(params=params, pipeline="tune", **{"trials": 20, "workers": 3, **search})

    requests = [asked(), asked(trials=40), asked(workers=5), asked(ranges=("epochs=2:4",)), asked()]
    assert len({submission_key(request, settings) for request in requests}) == 4
    declared = {key: {} for key in ("trials", "workers", "ranges")}
    given = remote_arguments(asked(ranges=("epochs=2:4",)), declared, settings)
    assert given == {"trials": 20, "workers": [1, 2, 3], "ranges": ["epochs=2:4"]}


def test_of_looks_at_drift_one_is_under_way(fake, server, settings, params):
    request = Request(params=params, pipeline="retrain", cause="drift")
    first, second = submit(request, settings, server), submit(request, settings, server)
    assert (first.name, first.key, second.run_id, second.created) == ("retrain-look", "", first.run_id, False)
    fake.scripts[first.run_id] = [("SUCCEEDED", {})]
    assert submit(request, settings, server).created
    assert {run.runtime_config.parameters["cause"] for run in fake.runs.values()} == {"drift"}


def test_a_rollout_whose_version_was_approved_after_its_run_goes_on_in_another(fake, server, settings, params):
    request = Request(params=params, pipeline="rollout", run_id="r")
    first = submit(request, settings, server)
    assert not submit(request, settings, server).created
    fake.scripts[first.run_id] = [("SUCCEEDED", {})]
    assert submit(request, settings, server).created


def test_a_run_has_the_account_of_the_cluster_settings(fake, server, settings, params):
    file = settings.root / CLUSTER_FILE
    file.parent.mkdir(parents=True)
    file.write_text("service_account: tokka-pipeline\n")
    try:
        submit(Request(params=params, pipeline="specialise"), settings, server)
    finally:
        file.unlink()
        file.parent.rmdir()
    assert [run.service_account for run in fake.runs.values()] == ["tokka-pipeline"]


def test_a_run_is_given_what_its_pipeline_declares(settings, params):
    request = Request(params=params, pipeline="specialise", cause="person")
    given = remote_arguments(request, {"overrides": {}, "strategy": {}, "endpoint": {}, "later": {}}, settings)
    assert given == {
        "overrides": written(params),
        "strategy": params.finetuning.strategy,
        "endpoint": params.registry.model,
    }
    assert parse_params(given["overrides"]) == params


def test_a_run_is_given_its_commit_key_and_the_digest_of_its_rows(settings, params):
    declared = dict.fromkeys(("commit", "key", "data_digest"))
    told = submitted(Request(params=params, pipeline="specialise"), declared, settings, "k" * 32)
    assert told["key"] == "k" * 32
    assert told["data_digest"] == preflight.rows_digest(params, settings, "")
    look = submitted(Request(params=params, pipeline="retrain", cause="drift"), declared, settings, "")
    assert set(look) == {"commit", "key"} and look["key"] == ""
    assert submitted(Request(params=params, pipeline="rollout"), {"run_id": {}}, settings, "k" * 32) == {}


def test_the_project_s_own_pipelines_can_be_submitted(fake, server, settings, params, tmp_path):
    """With the parameters that each of them declares, and none besides."""
    ours = settings.model_copy(update={"root": Path.cwd(), "home": tmp_path})
    source = params.data.model_copy(update={"source": str(settings.root / "data" / "sample.csv")})
    for pipeline, cause in {"retrain": "drift", "specialise": "person", "rollout": "person", "tune": "person"}.items():
        upload = upload_pipeline(pipeline, ours, server)
        request = Request(params=params.model_copy(update={"data": source}), pipeline=pipeline, cause=cause, run_id="r")
        arguments = remote_arguments(request, ir.parameters(upload.document), ours)
        assert create_run(server, pipeline, upload, arguments).display_name == pipeline
        assert len({step.title for step in ir.steps(upload.document)}) == len(ir.steps(upload.document))


def test_a_snapshot_comes_from_a_record_that_the_cluster_shares(settings, params):
    record = Record(settings.record_url)
    champion = Revision(version="1", digest="d" * 64, snapshot="s3://bucket/snapshot.parquet")
    record.compare_and_set(record.read(params.registry.model), champion=champion)
    assert remote_snapshot(params, settings) == ""


@pytest.mark.parametrize("source", ["/srv/tickets.csv", "../tickets.csv"])
def test_a_file_of_this_machine_is_refused_before_anything_is_sent(fake, server, settings, params, source):
    data = params.data.model_copy(update={"source": source})
    with pytest.raises(UsageError, match="no pod can read"):
        submit(Request(params=params.model_copy(update={"data": data})), settings, server)
    assert fake.requests == []


def test_a_source_that_cannot_be_read_starts_nothing(fake, server, settings, params):
    data = params.data.model_copy(update={"source": "data/nowhere.csv"})
    with pytest.raises(TokkaError, match=r"nowhere\.csv"):
        submit(Request(params=params.model_copy(update={"data": data})), settings, server)
    assert fake.runs == {}


def test_whoever_comes_second_from_another_machine_takes_its_run_back(fake, server, settings, params):
    request = Request(params=params, pipeline="specialise")
    first = submit(request, settings, server)
    fake.fail("GET /apis/v2beta1/runs$", 200, body="{}", times=1)
    second = submit(request, settings, server)
    assert second.run_id == first.run_id
    assert not second.created
    assert len(fake.runs) == 2
    (other,) = set(fake.runs) - {first.run_id}
    assert fake.scripts[other] == [("CANCELED", {})]


def test_two_machines_that_submit_at_once_have_one_run(fake, server, settings, params, tmp_path):
    start = threading.Barrier(2)

    def machine(name: str):
        own = settings.model_copy(update={"home": tmp_path / name})
        start.wait()
        return submit(Request(params=params, pipeline="specialise"), own, KfpServer(server.settings))

    with ThreadPoolExecutor(2) as machines:
        first, second = machines.map(machine, ["one", "two"])
    live = {run_id for run_id in fake.runs if fake.scripts.get(run_id) != [("CANCELED", {})]}
    assert {first.run_id} == {second.run_id} == live
    assert [first.created, second.created].count(True) == 1


def test_a_failed_run_does_not_count_and_one_that_ended_well_does(fake, server, settings, params):
    request = Request(params=params, pipeline="specialise")
    fake.script = [("FAILED", {})]
    first = submit(request, settings, server)
    fake.script = [("SUCCEEDED", {})]
    second = submit(request, settings, server)
    assert second.created
    assert not submit(request, settings, server).created
    assert find_run(server, first.name).run_id == second.run_id


@pytest.mark.parametrize(("state", "answer"), [("FAILED", "mine"), ("CANCELED", "mine"), ("CANCELING", "wait")])
def test_what_a_run_held_that_is_over_may_be_had_at_once(fake, server, settings, params, postgres, state, answer):
    shared = settings.model_copy(update={"record_url": postgres.database()})
    request = Request(params=params, pipeline="specialise")
    fake.script = [(state, {})]
    first, claims = submit(request, shared, server), Claims(RecordDatabase(shared.record_url))
    assert claims.take(first.key, first.run_id) == ("mine", {})
    second = submit(request, shared, server)
    assert second.created
    assert claims.take(first.key, second.run_id) == (answer, {})


def test_caching_is_left_as_it_was_compiled(fake, server, settings, params):
    submit(Request(params=params, pipeline="specialise"), settings, server)
    (run,) = fake.runs.values()
    assert run.pipeline_spec is None
    assert run.pipeline_version_reference.pipeline_version_id in fake.versions


def test_several_users_have_a_namespace_each(fake, settings, params):
    fake.multi_user = True
    alone = KfpServer(KubeflowSettings.from_environment({"TOKKA_KFP_HOST": fake.host}))
    request = Request(params=params, pipeline="specialise")
    with pytest.raises(TokkaError, match="empty namespace"):
        submit(request, settings, alone)
    own = {"TOKKA_KFP_HOST": fake.host, "TOKKA_KFP_NAMESPACE": "team-a"}
    assert submit(request, settings, KfpServer(KubeflowSettings.from_environment(own))).created
    assert [one.namespace for one in fake.experiments.values()] == ["team-a"]


@pytest.mark.parametrize(
    ("request_", "status", "said", "words"),
    [
        ("POST /apis/v2beta1/runs$", 403, "not authorized to create runs", "could not start specialise-"),
        ("POST /apis/v2beta1/runs$", 429, "ResourceExhausted", "quota"),
        ("POST /apis/v2beta1/runs$", 400, "parameter x is not optional", "parameter x is not optional"),
        ("POST /apis/v2beta1/pipelines/upload_version", 400, "Failed to create", "could not upload version"),
        ("GET /apis/v2beta1/runs$", 401, "token expired", "does not know who asks"),
    ],
)
def test_each_failure_says_what_was_tried(fake, server, settings, params, request_, status, said, words):
    fake.fail(request_, status, said)
    with pytest.raises(TokkaError, match=words):
        submit(Request(params=params, pipeline="specialise"), settings, server)
