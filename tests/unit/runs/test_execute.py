"""What a run remembers: only what has nothing left to do."""

import pytest

from tokka.runs.execute import is_settled


@pytest.mark.parametrize(
    ("gate", "review", "canary", "settled"),
    [
        (None, None, None, False),
        ("refuse", None, None, True),
        ("pass", "waiting", None, False),
        ("pass", "refused", None, True),
        ("pass", "approved", None, False),
        ("pass", "approved", "promoted", True),
        ("pass", "approved", "rolled_back", True),
        ("pass", "approved", "superseded", False),
        ("pass", "approved", "held", False),
    ],
)
def test_only_what_has_nothing_left_to_do_is_remembered(gate, review, canary, settled):
    final = {
        "gate": gate and {"verdict": gate},
        "review": review,
        "canary": canary and {"verdict": canary},
    }
    assert is_settled(final) == settled
