"""The learning curve: nested, stratified shares, trained once; one that cannot be trained is a point that says so."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.data.preparation.prepared import load
from tokka.errors import TokkaError
from tokka.evaluation.metrics.test_set import open_test
from tokka.evaluation.models import learning_curve as module
from tokka.evaluation.models.learning_curve import cpu_seconds, learning_curve, reading, spent, subset


def table(counts):
    targets = [label for label, count in counts.items() for _ in range(count)]
    return pa.table({"row_id": [f"{number:04x}" for number in range(len(targets))], "target": targets})


def ids(found):
    return set(found.column("row_id").to_pylist())


counts = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1)


@settings(deadline=None)
@given(counts, st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.booleans())
def test_a_smaller_share_is_part_of_a_larger_one_and_no_class_is_lost(counts, one, other, classes):
    small, large = sorted((one, other))
    train = table(counts)
    less, more = subset(train, small, 7, classes), subset(train, large, 7, classes)
    assert ids(less) <= ids(more) <= ids(train)
    if classes:
        kept = less.column("target").to_pylist()
        for label, count in counts.items():
            assert min(2, count) <= kept.count(label) <= max(2, small * count + 1)


def test_a_share_is_of_each_class_and_depends_on_the_seed_alone():
    train = table({"a": 100, "b": 50})
    found = subset(train, 0.1, 7, True)
    assert found.column("target").to_pylist() == ["a"] * 10 + ["b"] * 5
    assert ids(found) == ids(subset(train, 0.1, 7, True)) != ids(subset(train, 0.1, 8, True))
    shuffled = train.take(pa.array(list(range(149, -1, -1))))
    assert ids(subset(shuffled, 0.1, 7, True)) == ids(found)


def point(rows, value, problem=""):
    return {"rows": rows, "value": value, "problem": problem}


def test_the_reading_of_a_curve():
    rising, flat = [point(10, 0.5), point(100, 0.8)], [point(10, 0.79), point(30, 0.8), point(100, 0.805)]
    assert "likely to help" in reading(rising, 0.02, higher=True)
    assert "flattened, and 10 labelled rows" in reading(flat, 0.02, higher=True)
    assert "likely to help" in reading([point(10, 3.0), point(100, 1.0)], 0.5, higher=False)
    assert reading([point(10, 0.5, "broken"), point(100, 0.8)], 0.02, higher=True) == ""


def test_what_a_resumed_training_took_counts_whole(tmp_path):
    outcome = {"digest": "d" * 64, "cpu_seconds": 3.0, "metrics": {"training_cpu_seconds": 9.5}}
    assert spent(outcome) == 9.5
    folder = tmp_path / "store" / "finetune" / "key"
    folder.mkdir(parents=True)
    (folder / "outcome.json").write_text('{"digest": "abc", "cpu_seconds": 4}')
    assert cpu_seconds(tmp_path, "abc") == 4.0
    assert cpu_seconds(tmp_path, "other") is None


def test_shares_are_trained_once_and_measured_on_the_same_rows(tmp_path, prepared, params, monkeypatch):
    rules = params(evaluation={"learning_curve": [0.3, 0.1]}, finetuning={"epochs": 1, "batch_size": 16},
                   export={"onnx": False, "int8": False, "serve": "torch"})  # fmt: skip
    test = open_test(load(prepared), [], 20)
    points = learning_curve(prepared, test, "accuracy", rules, tmp_path)
    assert [(it["share"], it["rows"], it["problem"]) for it in points] == [(0.1, 18, ""), (0.3, 54, "")]
    assert all(it["low"] <= it["value"] <= it["high"] and it["cpu_seconds"] > 0 for it in points)
    assert not list((tmp_path / "store" / "learning_curve").rglob("model*"))

    def forbidden(*_, **__):
        raise AssertionError("it was trained before")

    monkeypatch.setattr(module, "_train", forbidden)
    assert learning_curve(prepared, test, "accuracy", rules, tmp_path) == points


def test_a_share_that_cannot_be_trained_says_why(tmp_path, prepared, params, monkeypatch):
    def broken(*_, **__):
        raise TokkaError("the loss is not a number")

    monkeypatch.setattr(module, "_train", broken)
    rules = params(evaluation={"learning_curve": [0.5]})
    found = learning_curve(prepared, open_test(load(prepared), [], 20), "accuracy", rules, tmp_path)
    assert (found[0]["problem"], found[0]["value"]) == ("the loss is not a number", None)
