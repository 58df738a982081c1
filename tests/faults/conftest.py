import os
from unittest import mock

import pytest

from tests.faults.crash_world import make_models
from tests.faults.victim import Victim
from tests.fixtures.stacks import make_world  # noqa: F401
from tests.fixtures.tiny_model import make_tiny_base
from tests.loop.world import World


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """For `make_world`: versions 1, 2 and 3 of the crash-point suite."""
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """A champion that serves, and a good second candidate; built by the steps themselves."""
    folder = tmp_path_factory.mktemp("victim")
    world = World(folder, make_tiny_base(folder / "base"), rows=1200)
    with mock.patch.dict(os.environ, world.environment):
        yield Victim(world)
    world.close()
