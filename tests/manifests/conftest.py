"""The three environments, built once."""

import copy

import pytest

from tests.manifests.objects import NAMES, OVERLAYS, Object, build


@pytest.fixture(scope="session")
def built() -> dict[str, list[Object]]:
    """The objects of each overlay by its name."""
    return {name: build(OVERLAYS / name) for name in NAMES}


@pytest.fixture
def dev(built: dict[str, list[Object]]) -> list[Object]:
    """A copy to spoil."""
    return copy.deepcopy(built["dev"])
