"""The search space: every key exists, every value is legal, and a wrong range is named."""

import json
from typing import Any

import pytest

from tests.fixtures.training import MakeParams
from tokka.errors import UsageError
from tokka.tuning.search_space import SPACE, make_space, present_values, rounded, with_values


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("learning_rat=1:2", "is not searched"),
        ("learning_rate=1", "low:high"),
        ("learning_rate=0:1", "low:high"),
        ("epochs=5:2", "low:high"),
        ("epochs=a:b", "low:high"),
        ("epochs=nan:3", "low:high"),
    ],
)
def test_a_wrong_range_is_named(make_params: MakeParams, search: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_space(make_params().finetuning, [search])


@pytest.mark.parametrize("finetuning", [{"strategy": "frozen"}, {"learning_rate": "auto"}])
def test_what_cannot_be_tuned_is_refused(make_params: MakeParams, finetuning: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        make_space(make_params(**finetuning).finetuning)


def test_every_key_exists_and_every_value_is_legal(make_params: MakeParams) -> None:
    params = make_params()
    for bound in ("low", "high"):
        values = {
            name: int(value) if one.whole or one.choices else value
            for name, one in SPACE.items()
            for value in [getattr(one, bound)]
        }
        found = with_values(params, values)
        assert present_values(found.finetuning) == pytest.approx(values)
    assert json.loads(json.dumps(present_values(params.finetuning)))["learning_rate"] == 2e-3
    assert [rounded(value) for value in (0.0, 0.00012345, 0.98765)] == [0.0, 0.000123, 0.988]
