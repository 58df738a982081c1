"""Our own steps on the Kubeflow Pipelines that TOKKA_KFP_HOST names, in a namespace made ready by docs/kubeflow.md.

TOKKA_IMAGE     the image `pipeline`, of this commit
TOKKA_REMOTE    s3://bucket/prefix, which this process and the pods reach; AWS_ENDPOINT_URL and so on are its keys
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import variable
from tokka.errors import Refused
from tokka.params import load_params
from tokka.runs import remote_run, submission
from tokka.runs.execute import Request
from tokka.runs.kfp_server import KfpServer
from tokka.runs.upload import Build
from tokka.settings import KubeflowSettings, Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rows_without_text() -> Iterator[str]:
    """The address of 900 rows, a third of which have no text; deleted afterwards."""
    import boto3

    bucket, _, prefix = variable("TOKKA_REMOTE").removeprefix("s3://").partition("/")
    key, store = f"{prefix}/test-{uuid.uuid4().hex}.csv", boto3.client("s3")
    texts = ("" if number % 3 == 0 else f"question {number}" for number in range(900))
    lines = (f"{text},label{number % 9},2026-01-05T03:34:59,chat,one" for number, text in enumerate(texts))
    store.put_object(Bucket=bucket, Key=key, Body="\n".join(("text,label,time,channel,product", *lines)).encode())
    try:
        yield f"s3://{bucket}/{key}"
    finally:
        store.delete_object(Bucket=bucket, Key=key)


@pytest.mark.timeout(900)
def test_data_without_texts_ends_a_run_in_a_red_task_of_that_name_behind_a_green_page(
    rows_without_text: str, tmp_path: Path
):
    variable("TOKKA_KFP_HOST")
    params = load_params(ROOT / "params.yaml", (f"data.source={rows_without_text}",))
    server = KfpServer(KubeflowSettings.from_environment())
    settings = Settings.from_environment({**os.environ, "TOKKA_ROOT": str(ROOT), "TOKKA_HOME": str(tmp_path)})
    request = Request(params=params, pipeline="specialise")
    started = submission.submit(request, settings, server, Build(image=variable("TOKKA_IMAGE")))
    try:
        final, error = remote_run.follow(server, started.run_id, lambda event: None)
        states = {step["name"].replace("_", " "): step["status"] for step in final["steps"]}
        wanted = {"preflight": "done", "validate data": "done", "data refused": "failed"}
        assert states == wanted, (states, error)
        assert isinstance(error, Refused)
    finally:
        server.call("delete", server.service("Run").run_service_delete_run, started.run_id)
