"""Which brokers there are, and where their passwords may stand."""

import pytest

from tokka.errors import UsageError
from tokka.jobs.broker import require_known
from tokka.params import parse_params


def test_a_broker_of_no_known_kind_and_a_password_in_params_are_refused():
    with pytest.raises(UsageError, match="expected amqp, amqps or kafka") as refused:
        require_known("redis://user:secret@localhost")
    assert "secret" not in refused.value.message
    with pytest.raises(UsageError, match="TOKKA_BROKER"):
        parse_params({"serving": {"asynchronous": {"broker": "amqp://me:secret@localhost/"}}})
