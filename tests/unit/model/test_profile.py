"""Profiles: forms that contradict each other are refused, and the budgets."""

import pytest

from tokka.errors import UsageError
from tokka.model import profile
from tokka.params import parse_params


@pytest.mark.parametrize(
    "export",
    [{"profile": "edge", "serve": "fp32"}, {"profile": "edge", "int8": False}, {"serve": "fp32", "onnx": False}],
)
def test_forms_that_contradict_each_other_are_refused(export: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        profile.check_export(parse_params({"export": export}))


def test_the_budgets_are_those_of_the_profile() -> None:
    export = {"edge": {"max_tokens": 32, "latency_budget_ms": 5.0, "size_budget_mb": 6.0}}
    standard = parse_params({"export": export, "evaluation": {"latency_budget_ms": 50.0, "size_budget_mb": 60.0}})
    edge = parse_params({"export": {**export, "profile": "edge"}})
    assert (profile.budgets(standard).latency_ms, profile.budgets(standard).size_mb) == (50.0, 60.0)
    assert (profile.budgets(edge).latency_ms, profile.budgets(edge).size_mb) == (5.0, 6.0)
    assert (profile.max_tokens(standard), profile.max_tokens(edge)) == (128, 32)
    assert profile.max_tokens(parse_params({"export": {"profile": "edge"}, "model": {"max_tokens": 16}})) == 16
