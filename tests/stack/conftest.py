"""A real stack for the folder, and one for whoever asks."""

from tests.fixtures.stacks import make_world, models, shared_world, world  # noqa: F401
