import random
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from tests.unit.data.corpus import params_for, texts
from tokka import files
from tokka.data import normalising
from tokka.data import rows as canonical
from tokka.data.preparation import near, ordering, prepared, preprocessing
from tokka.data.rows import Row
from tokka.errors import Refused
from tokka.params import Params

PARAMS = params_for("x.csv", preprocessing={"minimum_class_size": 2})


def corpus(count: int, labels: str = "abc") -> list[Row]:
    return [Row(text, target=labels[number % len(labels)]) for number, text in enumerate(texts(count))]


class Result(NamedTuple):
    splits: dict[str, list[Row]]
    labels: list[str]
    summary: dict[str, Any]


def decide(rows: list[Row], official_test: list[Row] | None, params: Params) -> Result:
    """What `prepare` wrote."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        summary = preprocessing.prepare(rows, official_test, params, out)
        names = ("train", "validation", "test")
        splits = {name: list(canonical.stream(out / f"{name}.parquet", params.task)) for name in names}
        return Result(splits, files.read_json(out / "labels.json")["labels"], summary)


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
    tested = {one.text for one in decide(base, None, PARAMS).splits["test"]}
    copies = [Row(f"{text} {end}", target="a") for text in sorted(tested) for end in ("!", "x")]
    grown = decide([*base, *copies], None, params_for("x", preprocessing={"near_threshold": 0.8}))
    assert tested <= {one.text for one in grown.splits["test"]}
    held = [near.shingles(normalising.key(one.text)) for one in grown.splits["test"]]
    for one in [*grown.splits["train"], *grown.splits["validation"]]:
        found = near.shingles(normalising.key(one.text))
        assert max(near.similarity(found, other) for other in held) < 0.8


def test_rows_of_a_group_stay_together() -> None:
    rows = [one._replace(group=f"customer {number % 20}") for number, one in enumerate(corpus(200))]
    found = decide(rows, None, params_for("x.csv", task={"group": "customer"})).splits
    groups = [{one.group for one in members} for members in found.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_a_group_of_the_official_test_leaves_training() -> None:
    params = params_for(
        "x.csv", task={"group": "customer"}, data={"test": "test.csv"}, preprocessing={"deduplicate": "none"}
    )
    rows = [one._replace(group=f"customer {number % 20}") for number, one in enumerate(corpus(200))]
    official = [one._replace(text=f"quite another matter {number}") for number, one in enumerate(rows[:3])]
    result = decide(rows, official, params)
    assert sorted(result.splits["test"]) == sorted(official)
    trained = [*result.splits["train"], *result.splits["validation"]]
    assert {one.group for one in trained} == {f"customer {number}" for number in range(3, 20)}
    counts = {name: result.summary[name] for name in ("rows_of_test_groups", "near_duplicates", "dropped_rows")}
    assert counts == {"rows_of_test_groups": 30, "near_duplicates": 0, "dropped_rows": 0}


def test_rows_without_groups_share_none_with_the_official_test() -> None:
    params = params_for("x.csv", data={"test": "test.csv"})
    result = decide(corpus(200), [Row("quite another matter", target="a")], params)
    assert result.summary["rows_of_test_groups"] == 0
    assert result.summary["rows"]["train"] > 100


def test_an_empty_name_of_a_test_file_is_none() -> None:
    with_none, with_empty = (decide(corpus(200), None, params_for("x.csv", data={"test": test}))
                             for test in (None, ""))  # fmt: skip
    assert with_empty == with_none


def test_every_class_has_rows_in_every_split() -> None:
    rows = [one._replace(target=f"class {number % 30:02}") for number, one in enumerate(corpus(300))]
    params = params_for("x", preprocessing={"minimum_class_size": 5, "deduplicate": "exact"})
    result = decide(rows, None, params)
    assert result.summary["classes_absent"] == {}
    assert len(result.labels) == 30


def test_small_classes_are_dropped_counted_and_named() -> None:
    rows = [*corpus(120), Row("a rare one", target="rare"), Row("another rare one", target="rare")]
    result = decide(rows, None, params_for("x"))
    assert result.summary["dropped_classes"] == {"rare": 2}
    assert result.summary["dropped_rows"] == 2
    assert "rare" not in result.labels


def test_official_test_is_taken_as_it_is_and_leaves_training() -> None:
    params = params_for("x.csv", data={"test": "test.csv"}, preprocessing={"minimum_class_size": 2})
    rows = corpus(150)
    official = [*rows[:10], rows[0], Row("something else entirely", target="a")]
    result = decide(rows, official, params)
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
        decide(rows, None, params_for("x"))
    assert words in error.value.message
    assert "\n" not in error.value.message


def test_official_test_with_a_class_of_its_own_is_refused() -> None:
    params = params_for("x.csv", data={"test": "test.csv"})
    with pytest.raises(Refused, match=r"data\.source lacks, such as 'alien'"):
        decide(corpus(100), [Row("new", target="alien")], params)


def test_regression_rows(tmp_path: Path) -> None:
    params = params_for("x", task={"type": "regression", "target": "score"})
    rows = [Row(text, target=float(number % 7)) for number, text in enumerate(texts(100))]
    summary = preprocessing.prepare(rows, None, params, tmp_path)
    assert prepared.load(tmp_path).labels == ()
    assert pq.read_table(tmp_path / "train.parquet")["target"].type == "double"
    assert summary["classes"] == {}
    with pytest.raises(Refused, match="one value only"):
        decide([one._replace(target=1.0) for one in rows], None, params)


@pytest.mark.parametrize("settings", [{}, {"deduplicate": "exact"}, {"deduplicate": "none"}, {"near_threshold": 0.6}])
def test_batches_of_any_size_give_the_same(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, base = random.Random(1), corpus(200)
    copies = [Row(one.text + generator.choice(["", "!", " x"]), target=generator.choice("abc")) for one in base * 2]
    params = params_for("x.csv", data={"test": "test.csv"}, preprocessing={"minimum_class_size": 2, **settings})
    rows, official = [*base, *copies, Row("rare", target="d")], base[3:30:9]
    whole = preprocessing.prepare(rows, official, params, tmp_path / "whole")
    monkeypatch.setattr(canonical, "BATCH_ROWS", 37)
    monkeypatch.setattr(ordering, "RUN_ROWS", 5)
    monkeypatch.setattr(near, "COMPARED", 11)
    monkeypatch.setattr(near, "SKETCHED", 3)
    monkeypatch.setattr(near, "REMEMBERED", 20)
    assert preprocessing.prepare(rows, official, params, tmp_path / "parts") == whole
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"whole", "parts"}


def test_a_batch_of_long_texts_is_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "BATCH_CHARACTERS", 100)
    assert [len(batch) for batch in canonical.batches([Row("x" * 60, target="a")] * 5)] == [2, 2, 1]
