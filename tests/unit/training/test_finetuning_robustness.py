"""Hard data ends in a good model or in one clear sentence: from the file, through preprocess, to the real training."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.prepared_rows import FILLERS, TOPICS, make_prepared, write_split
from tests.fixtures.training import MakeParams
from tokka import files
from tokka.data.preparation import preprocessing, stage
from tokka.data.preparation.prepared import load
from tokka.data.rows import Row
from tokka.data.validation import validation
from tokka.errors import Refused, TokkaError
from tokka.model.predictor import load_predictor
from tokka.params import Params, parse_params
from tokka.settings import Settings
from tokka.training.finetuning import finetune

ROOT = Path(__file__).parents[3]
Pipeline = Callable[..., dict[str, Any]]


def messages(count: int, topics: tuple[str, ...] = tuple(TOPICS), seed: int = 0) -> list[tuple[str, str]]:
    """So many texts and their topics, no two alike."""
    generator = np.random.default_rng(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        topic = topics[len(found) % len(topics)]
        words = [*generator.choice(TOPICS[topic], 3), *generator.choice(FILLERS, 5)]
        found.setdefault(" ".join(generator.permutation(words)), topic)
    return list(found.items())


def rows_of(pairs: list[tuple[str, str]]) -> list[Row]:
    return [Row(text, target=topic) for text, topic in pairs]


@pytest.fixture
def pipeline(make_params: MakeParams, tmp_path: Path) -> Pipeline:
    """From a table's rows to a model: validate_data, preprocess and finetune, as the steps call them."""

    def run(pairs: list[tuple[str, str]], **sections: Any) -> dict[str, Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(
            pa.table({"text": [t for t, _ in pairs], "label": [t for _, t in pairs]}), tmp_path / "in.parquet"
        )
        params = with_sections(
            make_params(epochs=4), data={"source": str(tmp_path / "in.parquet"), **sections.pop("data", {})}, **sections
        )
        settings = Settings.from_environment({"TOKKA_ROOT": str(ROOT), "TOKKA_HOME": str(tmp_path / "home")})
        validated = validation.validate_source(params, settings, tmp_path / "rows")
        summary = stage.prepare_validated(tmp_path / "rows", params, tmp_path / "prepared")
        outcome = finetune(tmp_path / "prepared", params, tmp_path / "model", tmp_path / "work")
        return {"validated": validated, "summary": summary, **outcome}

    return run


def with_sections(params: Params, **sections: Any) -> Params:
    tree = params.model_dump()
    for name, values in sections.items():
        tree[name] |= values
    return parse_params(tree)


def test_a_loss_that_turns_nan_after_good_steps(
    prepared: Path, make_params: MakeParams, tmp_path: Path, base: Path
) -> None:
    """Weights near the end of float32: the first forward passes are fine, the squares of the gradients are not."""
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    weights = load_file(base / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"] = weights["encoder.layer.0.output.dense.weight"] * np.float32(1e38)
    save_file(weights, folder / "model.safetensors")
    params = with_sections(make_params(head_warm_start=False), model={"base": str(folder)})
    with pytest.raises(TokkaError, match="diverged") as caught:
        finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert "learning_rate" in caught.value.hint
    assert not (tmp_path / "model").exists()


def test_values_of_any_size_are_learned(make_params: MakeParams, tmp_path: Path) -> None:
    """1e30 squared is beyond float32: the loss is taken in units of the target's spread."""
    folder = make_prepared(tmp_path / "prepared", task="regression")
    for split in ("train", "validation", "test"):
        rows = load(folder).split(split).to_pylist()
        write_split(folder, split, [{**row, "target": row["target"] * 1e30} for row in rows])
    params = make_params(task={"type": "regression"}, export={"serve": "fp32", "maximum_difference": 1e28}, epochs=6)
    outcome = finetune(folder, params, tmp_path / "model", tmp_path / "work")
    assert outcome["metrics"]["validation_r2"] > 0.7


def test_a_class_that_is_in_no_validation_row_is_learned_all_the_same(make_params: MakeParams, tmp_path: Path) -> None:
    folder = make_prepared(tmp_path / "prepared")
    rows = load(folder)
    kept = [row for row in rows.validation.to_pylist() if row["target"] != "printer"]
    write_split(folder, "validation", kept)
    summary = files.read_json(folder / "summary.json")
    files.write_json(folder / "summary.json", {**summary, "rows": {**summary["rows"], "validation": len(kept)}})
    finetune(folder, make_params(epochs=4), tmp_path / "model", tmp_path / "work")
    assert load_predictor(tmp_path / "model").predict(["print the paper page"]).labels == ["printer"]


def test_a_class_of_copies_vanishes_before_training_and_is_named(make_params: MakeParams, tmp_path: Path) -> None:
    """Twenty copies are one row: too few for a class, so the model knows nothing of it."""
    copies = [Row("where is my lost" + " " * number + " parcel", target="parcel") for number in range(20)]
    params = make_params(epochs=4)
    summary = preprocessing.prepare([*rows_of(messages(300)), *copies], None, params, tmp_path / "prepared")
    assert "parcel" in summary["dropped_classes"]
    finetune(tmp_path / "prepared", params, tmp_path / "model", tmp_path / "work")
    assert list(load_predictor(tmp_path / "model").labels) == ["card", "payment", "printer"]


def test_a_giant_document_is_quarantined_by_the_cell_limit(pipeline: Pipeline) -> None:
    outcome = pipeline([*messages(400), ("my lost card " * 80_000, "card")])
    assert outcome["validated"]["quarantined"] == 1
    assert outcome["metrics"]["validation_accuracy"] > 0.8


def test_a_giant_document_that_is_let_in_is_cut_to_max_tokens(make_params: MakeParams, tmp_path: Path) -> None:
    giant = Row("my lost card " * 80_000, target="card")
    params = with_sections(make_params(epochs=4), data={"max_cell_characters": 2_000_000})
    summary = preprocessing.prepare([*rows_of(messages(400)), giant], None, params, tmp_path / "prepared")
    assert max(map(len, load(tmp_path / "prepared").train.column("text").to_pylist())) > 1_000_000, summary
    outcome = finetune(tmp_path / "prepared", params, tmp_path / "model", tmp_path / "work")
    assert outcome["metrics"]["validation_accuracy"] > 0.8
    found = load_predictor(tmp_path / "model").predict([giant.text])
    assert found.labels == ["card"]
    assert found.lengths.tolist() == [64]


def test_ten_rows_of_each_class_are_enough(pipeline: Pipeline) -> None:
    outcome = pipeline(messages(30))
    assert Counter(outcome["summary"]["rows"])["train"] >= 15
    assert np.isfinite(outcome["metrics"]["validation_loss"])
    assert outcome["metrics"]["validation_accuracy"] > 0.5


def test_one_class_in_a_thousand_rows_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        pipeline(messages(1000, topics=("card",)))
    assert "unique_value_count_to_be_between on 'target'" in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_blank_texts_are_quarantined_and_emoji_are_a_text(pipeline: Pipeline, tmp_path: Path) -> None:
    blank = [(" \t\n" * number, "card") for number in range(1, 4)] + [("\u200b\u200e\ufeff", "card")] * 3
    emoji = [("🙂" * number, "payment") for number in range(1, 6)]
    outcome = pipeline([*messages(400), *blank, *emoji])
    assert outcome["validated"]["quarantined"] == 6
    assert outcome["metrics"]["validation_accuracy"] > 0.8
    found = load_predictor(tmp_path / "model").predict(["🙂🙂", " \u200b ", "my lost card"])
    assert np.isfinite(found.scores).all()
    assert found.labels[2] == "card"


def test_nothing_but_blank_and_emoji_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(TokkaError) as caught:
        pipeline([("🙂" * (number + 1), "ab"[number % 2]) for number in range(100)])
    assert "match_regex" in str(caught.value)
    with pytest.raises(TokkaError):
        pipeline([(" \u200b" * (number + 1), "ab"[number % 2]) for number in range(100)])
    assert not (tmp_path / "model").exists()
