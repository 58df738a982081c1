"""How long a verdict about a credential holds, and that what cannot be verified is not accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.gateway.authorizer import CACHE_SECONDS, authorize
from tokka.gateway.bearer_tokens import Rejected, Unavailable, Verified


@given(left=st.floats(min_value=-1e6, max_value=1e6))
def test_a_verdict_never_outlives_the_credential(left):
    class Verifier:
        def verify(self, token):
            return Verified("jwt-1", ("predict",), 1e9 + left)

    verdict = authorize("token", None, Verifier(), 1e9)
    assert 0 <= verdict.seconds <= min(CACHE_SECONDS, max(left, 0)) + 1e-6


@pytest.mark.parametrize(("error", "status"), [(Rejected("no"), 401), (Unavailable("no keys", ""), 503)])
def test_what_cannot_be_verified_is_not_accepted(error, status):
    class Verifier:
        def verify(self, token):
            raise error

    assert authorize("token", None, Verifier(), 0.0).status == status
