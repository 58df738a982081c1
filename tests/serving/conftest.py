"""A real stack for the folder, one for whoever asks, and a worker that anybody may ask."""

import pytest

from tests.fixtures.stacks import make_world, models, shared_world, world  # noqa: F401
from tests.fixtures.worker import LoneWorker


@pytest.fixture(scope="package")
def lone_worker(models, tmp_path_factory):  # noqa: F811
    """Version 1 by itself, without a stack's key, as in a pod: a stack's own workers answer the gateway alone."""
    made = LoneWorker(next(iter(models.values())), tmp_path_factory.mktemp("lone"))
    yield made
    made.close()
