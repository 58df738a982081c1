"""What a client is told when nothing answers."""

import pytest

from tokka.errors import TokkaError
from tokka.gateway.client import predict

NOBODY = "http://127.0.0.1:9"


def test_nobody_there_is_one_sentence():
    with pytest.raises(TokkaError, match="does not answer") as error:
        predict(NOBODY, ["hello"])
    assert "tokka up" in error.value.hint
