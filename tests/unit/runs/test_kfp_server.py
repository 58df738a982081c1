"""The connection: who it says it is, what it asks again, and what it makes of a server that is not one of KFP's."""

import pytest

from tests.fakes.kubeflow import FakeKubeflow
from tests.fixtures.ports import free_port
from tokka.errors import TokkaError, UsageError
from tokka.runs.kfp_server import KfpServer, NoAnswer, equals
from tokka.settings import KubeflowSettings


@pytest.fixture
def fake():
    with FakeKubeflow() as found:
        yield found


def connect(host: str, **more: str) -> KfpServer:
    return KfpServer(KubeflowSettings.from_environment({"TOKKA_KFP_HOST": host, **more}))


def look(server: KfpServer) -> list[object]:
    listing = server.service("Pipeline").pipeline_service_list_pipelines
    return list(server.pages("list the pipelines", listing, "pipelines"))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "TOKKA_KFP_HOST is not set"),
        ({"TOKKA_KFP_HOST": "kfp:8888"}, "is not a URL"),
        ({"TOKKA_KFP_HOST": "http://kfp", "TOKKA_KFP_TOKEN": "a", "TOKKA_KFP_COOKIE": "b"}, "one credential"),
    ],
)
def test_wrong_settings_are_wrong_use(environment, words):
    with pytest.raises(UsageError, match=words):
        KubeflowSettings.from_environment(environment)


def test_credentials_are_not_printed():
    settings = KubeflowSettings.from_environment({"TOKKA_KFP_HOST": "http://kfp", "TOKKA_KFP_TOKEN": "secret"})
    assert "secret" not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("variable", "value", "header"),
    [
        ("TOKKA_KFP_TOKEN", "good", ("authorization", "Bearer good")),
        ("TOKKA_KFP_COOKIE", "authservice_session=good", ("cookie", "authservice_session=good")),
    ],
)
def test_a_credential_opens_the_door_and_none_does_not(fake, variable, value, header):
    fake.credential = header
    assert look(connect(fake.host, **{variable: value})) == []
    with pytest.raises(TokkaError, match="does not know who asks"):
        look(connect(fake.host))
    with pytest.raises(TokkaError) as refused:
        look(connect(fake.host, **{variable: "bad"}))
    assert f"{variable} was sent" in refused.value.hint


def test_a_token_file_is_read_for_each_request(fake, tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    server, fake.credential = connect(fake.host, TOKKA_KFP_TOKEN_FILE=str(file)), ("authorization", "Bearer first")
    assert look(server) == []
    file.write_text("second\n")
    fake.credential = ("authorization", "Bearer second")
    assert look(server) == []
    file.unlink()
    with pytest.raises(TokkaError, match="TOKKA_KFP_TOKEN_FILE"):
        look(server)


def test_a_server_that_is_not_there_is_said_to_be():
    with pytest.raises(NoAnswer, match=r"does not answer .*refused"):
        look(connect(f"http://127.0.0.1:{free_port()}"))


def test_a_name_that_is_none_is_said_to_be():
    with pytest.raises(NoAnswer, match="does not answer"):
        look(connect("http://nowhere.invalid"))


def test_a_server_that_is_not_ready_is_asked_again(fake):
    fake.fail("GET /apis/v2beta1/pipelines", 503, "warming up", times=2)
    assert look(connect(fake.host)) == []
    fake.fail("GET /apis/v2beta1/pipelines", 503, "warming up")
    with pytest.raises(NoAnswer, match="warming up"):
        look(connect(fake.host))


def test_what_changes_something_is_not_asked_again(fake):
    fake.fail("POST /apis/v2beta1/pipelines", 503, "warming up")
    server = connect(fake.host)
    make = server.service("Pipeline").pipeline_service_create_pipeline
    with pytest.raises(NoAnswer):
        server.call("make it", make, server.make("Pipeline", name="x", display_name="x"))
    assert fake.count("POST /apis/v2beta1/pipelines") == 1


def test_a_login_page_is_no_empty_list(fake):
    fake.fail("GET /apis", 200, body="<html>Sign in</html>", kind="text/html; charset=utf-8")
    with pytest.raises(TokkaError, match="answers with a web page"):
        look(connect(fake.host))


def test_another_server_is_seen_as_such(fake):
    fake.fail("GET", 404, body="<html>no such page</html>", kind="text/html")
    with pytest.raises(TokkaError, match="has no API of Kubeflow Pipelines v2"):
        look(connect(fake.host))


def test_a_refusal_by_a_server_of_another_version_says_so(fake):
    fake.version = "2.3.0"
    fake.fail("GET /apis/v2beta1/pipelines", 400, "unknown field")
    with pytest.raises(TokkaError) as refused:
        look(connect(fake.host))
    assert "the server is KFP 2.3.0" in refused.value.hint


def test_lists_are_read_to_their_end(fake):
    fake.page_size, server = 2, connect(fake.host)
    make = server.service("Pipeline").pipeline_service_create_pipeline
    for name in "abcde":
        server.call("make it", make, server.make("Pipeline", name=name, display_name=name))
    assert [one.name for one in look(server)] == list("abcde")
    listing = server.service("Pipeline").pipeline_service_list_pipelines
    assert [one.name for one in server.pages("find", listing, "pipelines", filter=equals("name", "d"))] == ["d"]


def test_the_sdk_s_own_client_understands_the_fake(fake, tmp_path, capsys):
    """The fake is no invention of ours: KFP's client uploads, runs and lists on it."""
    import kfp

    from tests.fixtures import small_project

    (path, *_) = small_project.compiled(small_project.make(tmp_path / "root"), tmp_path / "compiled")
    client = kfp.Client(host=fake.host, namespace="of-a-test")
    pipeline = client.upload_pipeline(str(path), "retrain")
    version = client.upload_pipeline_version(str(path), "second", pipeline_id=pipeline.pipeline_id)
    experiment = client.create_experiment("tokka")
    run = client.run_pipeline(
        experiment.experiment_id,
        "by-the-sdk",
        params={"overrides": {}},
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
    )
    assert client.get_run(run.run_id).display_name == "by-the-sdk"
    assert [one.name for one in client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions] == [
        "retrain",
        "second",
    ]
    made = client.create_recurring_run(
        experiment.experiment_id,
        "nightly",
        cron_expression="0 0 3 * * *",
        params={"overrides": {}},
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
    )
    assert client.get_recurring_run(made.recurring_run_id).trigger.cron_schedule.cron == "0 0 3 * * *"
