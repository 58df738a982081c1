"""Details that come later: joined without losing anything, whatever the order, and measured once each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka import files
from tokka.errors import TokkaError
from tokka.evaluation import complete as module
from tokka.evaluation.complete import Measurements, complete, merge, wanted

PARTS = ("behaviour", "alternatives", "insight", "learning_curve")
# Each part has keys of its own, but for the decision, to which two of them contribute different ones.
VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=3))
EXTRAS = st.fixed_dictionaries(
    {
        "behaviour": st.fixed_dictionaries({"behaviour": VALUES}),
        "alternatives": st.fixed_dictionaries({"forms": VALUES, "decision": st.fixed_dictionaries({"rows": VALUES})}),
        "insight": st.one_of(
            st.fixed_dictionaries({"insight": VALUES}), st.just({"problems": {"insight": "not computed"}})
        ),
        "learning_curve": st.fixed_dictionaries({"decision": st.fixed_dictionaries({"curve": VALUES})}),
    }
)
BEFORE = {"model": "helpdesk", "decision": {"metric": "accuracy", "rows": [], "curve": []}, "pending": list(PARTS)}


def joined(details, extras, order):
    for part in order:
        details = merge(details, part, extras[part])
    return details


@given(EXTRAS, st.permutations(PARTS), st.permutations(PARTS))
def test_the_order_does_not_matter_and_nothing_is_lost(extras, order, other):
    found = joined(BEFORE, extras, order)
    assert found == joined(BEFORE, extras, other)
    assert found["pending"] == []
    assert (found["model"], found["decision"]["metric"]) == ("helpdesk", "accuracy")
    assert found["decision"]["rows"] == extras["alternatives"]["decision"]["rows"]
    assert found["decision"]["curve"] == extras["learning_curve"]["decision"]["curve"]


@given(EXTRAS, st.lists(st.sampled_from(PARTS)))
def test_a_part_that_comes_twice_changes_nothing(extras, order):
    found = joined(BEFORE, extras, order)
    assert joined(found, extras, order[-1:]) == found
    assert set(found["pending"]) == set(PARTS) - set(order)


def test_only_what_params_ask_for_is_wanted(params):
    assert wanted(params(evaluation={"behaviour": "b.yaml", "insight": True, "learning_curve": [0.1]})) == list(PARTS)
    assert wanted(params(evaluation={"behaviour": None})) == ["alternatives"]


def test_a_completion_that_was_killed_goes_on_with_the_next_part(tmp_path, params, monkeypatch):
    measured, published = [], []

    def part(name, result):
        def measure(self, details):
            measured.append(name)
            if isinstance(result, BaseException):
                raise result
            return result

        return measure

    monkeypatch.setattr(module.evidence, "write_page", lambda folder, evaluation, details, params: files.write_json(
        folder / "details.json", details))  # fmt: skip
    files.write_json(tmp_path / "evaluation.json", {})
    files.write_json(tmp_path / "details.json", {"pending": ["behaviour", "insight", "alternatives"]})
    monkeypatch.setattr(Measurements, "behaviour", part("behaviour", {"behaviour": 1}))
    monkeypatch.setattr(Measurements, "insight", part("insight", KeyboardInterrupt()))
    monkeypatch.setattr(Measurements, "alternatives", part("alternatives", TokkaError("no rows")))
    arguments = (tmp_path, tmp_path, tmp_path, None, params(), tmp_path, published.append)
    with pytest.raises(KeyboardInterrupt):
        complete(*arguments)
    assert files.read_json(tmp_path / "details.json")["pending"] == ["insight", "alternatives"]
    monkeypatch.setattr(Measurements, "insight", part("insight", {"insight": 2}))
    complete(*arguments)
    assert measured == ["behaviour", "insight", "insight", "alternatives"]
    found = files.read_json(tmp_path / "details.json")
    assert found == {"behaviour": 1, "insight": 2, "problems": {"alternatives": "no rows"}, "pending": []}
    assert len(published) == 3
    complete(*arguments)
    assert len(measured) == 4
