import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.corpus import params_for, texts
from tokka.data import normalising
from tokka.data.preparation import deduplication, prepared, preprocessing, splitting
from tokka.data.rows import Row
from tokka.errors import Refused

PARAMS = params_for("x.csv", preprocessing={"minimum_class_size": 2})
words = st.text(alphabet="abcdeéAB .!?\u200b\n", min_size=1, max_size=12).filter(lambda text: text.strip(" \u200b\n"))
row = st.builds(lambda text, target: Row(text, target=target), words, st.sampled_from(["a", "b", "c"]))
rows_of = st.lists(row, min_size=1, max_size=40)
SHARES = {"validation_share": 0.2, "test_share": 0.3}


def corpus(count: int, labels: str = "abc") -> list[Row]:
    return [Row(text, target=labels[number % len(labels)]) for number, text in enumerate(texts(count))]


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalising.normalise(normalising.normalise(text)) == normalising.normalise(text)
    assert normalising.key(normalising.normalise(text)) == normalising.key(text)


@given(rows_of, rows_of)
def test_a_row_stays_in_its_split_as_data_grows(old: list[Row], new: list[Row]) -> None:
    before = {one.text: splitting.membership(one, **SHARES) for one in old}
    after = {one.text: splitting.membership(one, **SHARES) for one in [*new, *old]}
    assert before == {text: after[text] for text in before}


@given(rows_of, rows_of)
def test_what_was_trained_on_never_becomes_test(old: list[Row], new: list[Row]) -> None:
    """Lent rows included, for classes with two training texts; a conflict would change a text's class, so none here."""
    labels = {normalising.key(one.text): one.target for one in [*new, *old]}
    first = sorted({Row(one.text, target=labels[normalising.key(one.text)]) for one in old})
    second = sorted({Row(one.text, target=labels[normalising.key(one.text)]) for one in [*old, *new]})
    training = [one for one in first if splitting.membership(one, **SHARES) == "train"]
    large = {
        label for label in "abc" if len({normalising.key(one.text) for one in training if one.target == label}) > 1
    }
    trained = {one for one, split in zip(first, splitting.split(first, **SHARES), strict=True) if split == "train"}
    tested = {one for one, split in zip(second, splitting.split(second, **SHARES), strict=True) if split == "test"}
    assert not {one for one in trained & tested if one.target in large}


@given(rows_of)
def test_merging_twice_changes_nothing_and_order_does_not_matter(rows: list[Row]) -> None:
    once = deduplication.merge(rows)
    assert deduplication.merge(once.rows).rows == once.rows
    assert deduplication.merge(list(reversed(rows))).rows == once.rows
    assert once.duplicates == len(rows) - len({one.text for one in rows})


@settings(max_examples=30, deadline=None)
@given(rows_of)
def test_no_text_stands_in_two_splits(rows: list[Row]) -> None:
    merged = deduplication.merge(rows).rows
    splits = splitting.split(merged, **SHARES)
    stays = deduplication.across_splits(merged, splits, 0.8)
    keys: dict[str, set[str]] = {}
    for one, split, stay in zip(merged, splits, stays, strict=True):
        assert stay or split != "test"
        if stay:
            keys.setdefault(normalising.key(one.text), set()).add(split)
    assert all(len(found) == 1 for found in keys.values())


@pytest.mark.parametrize("seed", range(3))
def test_digest_does_not_know_the_order_of_rows(seed: int, tmp_path: Path) -> None:
    rows = corpus(120) + corpus(20)
    shuffled = random.Random(seed).sample(rows, len(rows))
    first = preprocessing.prepare(rows, None, PARAMS, tmp_path / "a")
    assert preprocessing.prepare(shuffled, None, PARAMS, tmp_path / "b") == first
    rows[50] = rows[50]._replace(target="b" if rows[50].target == "a" else "a")
    assert preprocessing.prepare(rows, None, PARAMS, tmp_path / "c")["digest"] != first["digest"]


def test_prepared_folder_and_its_loader(tmp_path: Path) -> None:
    summary = preprocessing.prepare(corpus(200), None, PARAMS, tmp_path)
    found = prepared.load(tmp_path)
    assert found.labels == ("a", "b", "c")
    assert found.digest == summary["digest"]
    assert found.train.column_names == ["row_id", "text", "target"]
    assert sum(summary["rows"].values()) == 200 - summary["near_duplicates"]
    ids = [one for name in ("train", "validation", "test") for one in found.split(name)["row_id"].to_pylist()]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 16 for one in ids)


def test_near_duplicate_of_a_test_row_leaves_training_and_the_test_row_stays() -> None:
    base = corpus(150)
    tested = {one.text for one in preprocessing.decide(base, None, PARAMS).splits["test"]}
    copies = [Row(f"{text} {end}", target="a") for text in sorted(tested) for end in ("!", "x")]
    grown = preprocessing.decide([*base, *copies], None, params_for("x", preprocessing={"near_threshold": 0.8}))
    assert tested <= {one.text for one in grown.splits["test"]}
    held = [deduplication.shingles(normalising.key(one.text)) for one in grown.splits["test"]]
    for one in [*grown.splits["train"], *grown.splits["validation"]]:
        found = deduplication.shingles(normalising.key(one.text))
        assert max(deduplication.similarity(found, other) for other in held) < 0.8


def test_conflicting_labels_majority_then_most_recent_then_alphabet() -> None:
    def kept(*members: tuple[str, str]) -> str:
        return str(deduplication.merge(Row("x", target=label, time=time) for label, time in members).rows[0].target)

    assert kept(("a", "9"), ("b", "1"), ("b", "2")) == "b"
    assert kept(("a", "2026-02-01"), ("b", "2026-01-01")) == "a"
    assert kept(("b", ""), ("a", "")) == "a"
    assert deduplication.merge([Row("x", target="a"), Row("x", target="b")]).conflicts == 1


def test_conflicting_numbers_give_their_mean() -> None:
    assert deduplication.merge([Row("x", target=1.0), Row("x", target=2.0)]).rows == [Row("x", target=1.5)]


def test_rows_of_a_group_stay_together() -> None:
    rows = [one._replace(group=f"customer {number % 20}") for number, one in enumerate(corpus(200))]
    found = preprocessing.decide(rows, None, PARAMS).splits
    groups = [{one.group for one in members} for members in found.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_a_group_of_the_official_test_leaves_training() -> None:
    params = params_for("x.csv", data={"test": "test.csv"}, preprocessing={"deduplicate": "none"})
    rows = [one._replace(group=f"customer {number % 20}") for number, one in enumerate(corpus(200))]
    official = [one._replace(text=f"quite another matter {number}") for number, one in enumerate(rows[:3])]
    result = preprocessing.decide(rows, official, params)
    assert sorted(result.splits["test"]) == sorted(official)
    trained = [*result.splits["train"], *result.splits["validation"]]
    assert {one.group for one in trained} == {f"customer {number}" for number in range(3, 20)}
    counts = {name: result.summary[name] for name in ("rows_of_test_groups", "near_duplicates", "dropped_rows")}
    assert counts == {"rows_of_test_groups": 30, "near_duplicates": 0, "dropped_rows": 0}


def test_rows_without_groups_share_none_with_the_official_test() -> None:
    params = params_for("x.csv", data={"test": "test.csv"})
    result = preprocessing.decide(corpus(200), [Row("quite another matter", target="a")], params)
    assert result.summary["rows_of_test_groups"] == 0
    assert result.summary["rows"]["train"] > 100


def test_an_empty_name_of_a_test_file_is_none() -> None:
    with_none, with_empty = (preprocessing.decide(corpus(200), None, params_for("x.csv", data={"test": test}))
                             for test in (None, ""))  # fmt: skip
    assert with_empty == with_none


def test_every_class_has_rows_in_every_split() -> None:
    rows = [one._replace(target=f"class {number % 30:02}") for number, one in enumerate(corpus(300))]
    params = params_for("x", preprocessing={"minimum_class_size": 5, "deduplicate": "exact"})
    result = preprocessing.decide(rows, None, params)
    assert result.summary["classes_absent"] == {}
    assert len(result.labels) == 30


def test_small_classes_are_dropped_counted_and_named() -> None:
    rows = [*corpus(120), Row("a rare one", target="rare"), Row("another rare one", target="rare")]
    result = preprocessing.decide(rows, None, params_for("x"))
    assert result.summary["dropped_classes"] == {"rare": 2}
    assert result.summary["dropped_rows"] == 2
    assert "rare" not in result.labels


def test_official_test_is_taken_as_it_is_and_leaves_training() -> None:
    params = params_for("x.csv", data={"test": "test.csv"}, preprocessing={"minimum_class_size": 2})
    rows = corpus(150)
    official = [*rows[:10], rows[0], Row("something else entirely", target="a")]
    result = preprocessing.decide(rows, official, params)
    assert sorted(result.splits["test"]) == sorted(official)
    trained = {one.text for name in ("train", "validation") for one in result.splits[name]}
    assert not trained & {one.text for one in official}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (corpus(60, "a"), "at least 2 classes, found 1 ('a')"),
        ([*corpus(60, "a"), Row("b one", target="b")], "1 more have fewer than"),
        ([Row(f"t {number}", target="ab"[number]) for number in range(2)], "at least 2 classes, found 0"),
        ([Row("same", target="a")] * 50 + [Row("other", target="b")] * 50, "at least 2 classes"),
    ],
)
def test_too_few_classes_are_refused(rows: list[Row], words: str) -> None:
    with pytest.raises(Refused) as error:
        preprocessing.decide(rows, None, params_for("x"))
    assert words in error.value.message
    assert "\n" not in error.value.message


def test_official_test_with_a_class_of_its_own_is_refused() -> None:
    params = params_for("x.csv", data={"test": "test.csv"})
    with pytest.raises(Refused, match=r"data\.source lacks, such as 'alien'"):
        preprocessing.decide(corpus(100), [Row("new", target="alien")], params)


def test_regression_rows(tmp_path: Path) -> None:
    params = params_for("x", task={"type": "regression", "target": "score"})
    rows = [Row(text, target=float(number % 7)) for number, text in enumerate(texts(100))]
    summary = preprocessing.prepare(rows, None, params, tmp_path)
    assert prepared.load(tmp_path).labels == ()
    assert pq.read_table(tmp_path / "train.parquet")["target"].type == "double"
    assert summary["classes"] == {}
    with pytest.raises(Refused, match="one value only"):
        preprocessing.decide([one._replace(target=1.0) for one in rows], None, params)
