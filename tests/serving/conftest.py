"""Three real models, and a stack of its own for whoever asks."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.serving.models import make_model
from tests.serving.world import World


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Digest to folder of three classifiers that disagree, in the order of their versions 1, 2, 3."""
    root = tmp_path_factory.mktemp("models")
    return {make_model(root / str(seed), seed=seed): root / str(seed) for seed in (1, 2, 3)}


@pytest.fixture(scope="module")
def make_world(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., World]]:
    """Homes with a record and deployed models; every stack in them is taken down afterwards."""
    worlds: list[World] = []

    def make(**serving: object) -> World:
        worlds.append(World(tmp_path_factory.mktemp("home"), free_port(), models, **serving))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()
        shutil.rmtree(world.settings.home, ignore_errors=True)


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    """One running stack with version 1 as champion, for the tests of a module."""
    made = make_world()
    made.install("1")
    made.up()
    return made
