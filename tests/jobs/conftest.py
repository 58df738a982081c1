"""Real models for whoever starts a stack with them."""

from tests.fixtures.stacks import models  # noqa: F401
