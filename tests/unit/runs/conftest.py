"""A small project, and a Kubeflow to send it to: for whatever talks to one."""

import pytest

from tests.fakes.kubeflow import FakeKubeflow
from tests.fixtures import small_project
from tokka.runs.kfp_server import KfpServer
from tokka.settings import KubeflowSettings, Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    root = small_project.make(folder / "root")
    small_project.frozen(root, folder / "compiled")
    return Settings.from_environment({"TOKKA_ROOT": str(root), "TOKKA_HOME": str(folder / "home")})


@pytest.fixture
def fake():
    with FakeKubeflow() as found:
        yield found


@pytest.fixture
def server(fake):
    return KfpServer(KubeflowSettings.from_environment({"TOKKA_KFP_HOST": fake.host}))
