"""Data insight: what was planted is found, what is clean is left alone, and nothing stops an evaluation."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from tokka.evaluation import label_quality
from tokka.evaluation.label_quality import duplicates, label_errors, look_into, value_errors
from tokka.evaluation.report.sections import insight_view

NO_OVERLAP = {"row_ids": 0, "texts": 0}


def prepared(texts, targets, labels=("a", "b", "c"), **more):
    table = pa.table({"text": texts, "target": targets, **more})
    return SimpleNamespace(train=table, labels=labels)


def clusters(rows=60, seed=0):
    """Texts "a 0", "b 1" …, and features that lie where the letter says."""
    generator = np.random.default_rng(seed)
    texts = [f"{'abc'[number % 3]} {number}" for number in range(3 * rows)]

    def embed(asked, seconds=None):
        centres = {letter: np.eye(8)[place] for place, letter in enumerate("abc")}
        found = np.array([centres[text[0]] + generator.normal(0, 0.15, 8) for text in asked])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return texts, [text[0] for text in texts], embed


def test_planted_label_errors_are_found_and_named_with_the_right_label():
    texts, targets, embed = clusters()
    planted = {30: "b", 61: "c", 92: "a", 120: "c"}
    wrong = [planted.get(number, target) for number, target in enumerate(targets)]
    found = label_errors(prepared(texts, wrong), embed, seed=7)
    top = {row["text"]: (row["given"], row["suggested"]) for row in found["top"][: len(planted)]}
    assert top == {texts[number]: (wrong[number], targets[number]) for number in planted}
    assert len(planted) <= found["flagged"] <= len(planted) + 3
    assert found["share"] == found["flagged"] / 180


def test_clean_labels_raise_hardly_a_suspicion():
    texts, targets, embed = clusters()
    assert label_errors(prepared(texts, targets), embed, seed=7)["flagged"] <= 2


def test_a_class_that_is_too_small_to_be_learned_is_left_out():
    texts, targets, embed = clusters()
    found = label_errors(prepared([*texts, "a x", "b y"], [*targets, "d", "d"], ("a", "b", "c", "d")), embed, seed=7)
    assert found["rows"] == 180


def test_the_value_that_is_far_off_comes_first():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 8))
    values = features @ np.arange(8.0) + generator.normal(0, 0.1, 200)
    values[17] += 50.0
    data = prepared([str(number) for number in range(200)], values.tolist(), ())
    found = value_errors(data, lambda texts, pairs: features[[int(text) for text in texts]], seed=7)
    assert found["top"][0]["text"] == "17"
    assert found["flagged"] == 1


def test_near_duplicates_with_another_label_are_found_and_those_with_the_same_are_not():
    long = "the order that I made on Monday has still not arrived at my place in Porto, where is it"
    texts = [
        long,
        long.replace("Porto", "Ports"),
        long + "!",
        "the printer is out of paper",
        "THE PRINTER IS OUT OF PAPER!",
    ]
    found = duplicates(prepared(texts, ["a", "b", "a", "c", "c"]), seed=7)
    assert found["near"] == 4
    assert found["pairs"] == 2
    assert {tuple(pair["targets"]) for pair in found["top"]} == {("a", "b"), ("b", "a")}
    assert found["top"][0]["similarity"] < 1


def test_equal_texts_with_other_values_are_apart_from_one_standard_deviation_on():
    texts = ["the printer is out of paper", "The printer is out of paper!", "my card is lost", "My card is lost."]
    found = duplicates(prepared(texts, [0.0, 10.0, 5.0, 5.1], ()), seed=7)
    assert (found["near"], found["pairs"]) == (2, 1)
    assert found["top"][0]["targets"] == ["0", "10"]


def test_the_second_text_of_a_pair_tells_two_rows_apart():
    same, seconds = ["is this paper good"] * 2, ["no it tears at once", "the moon is far away from here"]
    assert duplicates(prepared(same, ["a", "b"], text_pair=seconds), seed=7)["pairs"] == 0
    assert duplicates(prepared(same, ["a", "b"], text_pair=seconds[:1] * 2), seed=7)["pairs"] == 1


def test_what_cannot_be_computed_says_why_and_stops_nothing():
    texts, targets, _ = clusters()

    def broken(asked, seconds):
        raise RuntimeError("no such base model")

    found = look_into(prepared(texts, targets), broken, NO_OVERLAP, seed=7)
    assert found["errors"] == {"problem": "not computed: no such base model"}
    assert "pairs" in found["duplicates"]
    view = insight_view({"insight": found})
    assert view is not None
    assert view["flagged"] == ""
    one_class = look_into(prepared(texts, ["a"] * len(texts), ("a",)), clusters()[2], NO_OVERLAP, seed=7)
    assert "two classes" in one_class["errors"]["problem"]


def test_more_rows_than_the_cap_are_sampled_and_it_is_said(monkeypatch):

    texts, targets, embed = clusters()
    monkeypatch.setattr(label_quality, "ERROR_ROWS", 90)
    found = look_into(prepared(texts, targets), embed, {"row_ids": 0, "texts": 3}, seed=7)
    assert (found["errors"]["rows"], found["errors"]["of"]) == (90, 180)
    view = insight_view({"insight": found})
    assert view is not None
    assert "sample of the 180" in view["reading"]
    assert view["overlap"].startswith("3 test rows")


@pytest.mark.slow
def test_the_champion_decides_the_confidence_slices(tmp_path, prepared_folder, specialist, base, params):
    """Two candidates against one champion are judged on the same rows."""
    from tests.unit.evaluation.conftest import make_specialist
    from tokka.evaluation.evaluate import evaluate
    from tokka.evaluation.gate.schema import Champion

    rules = params(evaluation={"general": False, "behaviour": None}, gate={"beat_general": False})
    spoilt = make_specialist(tmp_path / "spoilt", base, prepared_folder, blur=3.0)
    champion = Champion("present", "1", specialist, "")
    found = [
        evaluate(prepared_folder, model, champion, rules, tmp_path / f"of-{model.name}")
        for model in (specialist, spoilt)
    ]
    named = [[part["value"] for part in one["candidate"]["slices"] if part["slice"] == "confidence"] for one in found]
    assert named[0] == named[1]
    assert len(named[0]) == 2
    compared = found[1]["comparison"]["champion"]["slices"]
    assert sum(part["slice"] == "confidence" for part in compared) == 2
    first = evaluate(prepared_folder, spoilt, Champion("none", "", None, ""), rules, tmp_path / "first")
    assert any("the candidate" in part["value"] for part in first["candidate"]["slices"])


@pytest.fixture
def prepared_folder(request):
    return request.getfixturevalue("prepared")
