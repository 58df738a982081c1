import pytest

from tests.fixtures.tiny_model import make_tiny_base
from tests.loop.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    found = World(folder, make_tiny_base(folder / "base"))
    yield found
    found.close()
