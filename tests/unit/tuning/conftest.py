"""One tiny base model and one trained specialist."""

from tests.fixtures.training import base, make_params, prepared, trained  # noqa: F401
