"""A real stack for the folder, and one for whoever asks."""

from collections.abc import Iterator

import pytest

from tests.fixtures.stacks import make_world, models, shared_world, world  # noqa: F401
from tests.gateway.credentials import Issuer


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()
