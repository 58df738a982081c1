"""A real stack for whoever asks."""

from tests.fixtures.stacks import make_world, models, world  # noqa: F401
