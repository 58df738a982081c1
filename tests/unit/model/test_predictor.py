"""The three forms agree, whatever the order and the batch, and ONNX forms need no torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.training import MakeParams
from tokka.errors import UsageError
from tokka.model.predictor import load_predictor

Trained = tuple[Path, dict[str, Any]]
TEXTS = ["my card is lost", "refund the payment", "", "print the paper page again please thank you " * 20, "漢字"]


@pytest.mark.parametrize("form", ["fp32", "torch"])
def test_forms_agree(trained: Trained, form: Any) -> None:
    wanted, found = (load_predictor(trained[0], name).predict(TEXTS) for name in ("torch", form))
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
    np.testing.assert_allclose(found.embeddings, wanted.embeddings, atol=1e-4)


def test_int8_is_close(trained: Trained) -> None:
    wanted, found = (load_predictor(trained[0], name).predict(TEXTS[:2]) for name in ("torch", "int8"))
    assert found.labels == wanted.labels
    assert (found.embeddings * wanted.embeddings).sum(axis=1).min() > 0.97


def test_shapes_and_probabilities(trained: Trained) -> None:
    predictor = load_predictor(trained[0])
    found = predictor.predict(TEXTS)
    assert predictor.form == "int8"
    assert found.scores.shape == (5, 3)
    np.testing.assert_allclose(found.scores.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1.0, atol=1e-3)
    assert found.unknown[4] == 1.0
    assert found.lengths.max() <= 64
    assert found.labels == [predictor.labels[index] for index in found.scores.argmax(axis=1)]


def test_order_and_batch_do_not_matter_to_fp32(trained: Trained) -> None:
    predictor = load_predictor(trained[0], "fp32")
    whole, single = predictor.predict(TEXTS), predictor.predict(TEXTS, batch=1)
    backwards = predictor.predict(TEXTS[::-1])
    np.testing.assert_allclose(whole.scores, single.scores, atol=1e-5)
    np.testing.assert_allclose(whole.scores, backwards.scores[::-1], atol=1e-5)


def test_an_int8_answer_does_not_depend_on_its_neighbours(trained: Trained) -> None:
    """Its activations are rounded on one scale per run: in one run with others the scores would differ."""
    predictor = load_predictor(trained[0], "int8")
    together = predictor.predict(TEXTS, batch=16)
    alone = [predictor.predict([text]) for text in TEXTS]
    np.testing.assert_array_equal(together.scores, np.concatenate([one.scores for one in alone]))
    np.testing.assert_array_equal(together.embeddings, np.concatenate([one.embeddings for one in alone]))


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_no_row_is_padded_far_beyond_its_own_length(trained: Trained, batch: int) -> None:
    predictor = load_predictor(trained[0], "fp32")
    shapes, engine = [], predictor._engine

    def watched(inputs: dict[str, Any]) -> Any:
        shapes.append((inputs["attention_mask"].sum(axis=1).min(), inputs["input_ids"].shape))
        return engine(inputs)

    predictor._engine = watched
    texts = ["card " * size for size in (30, 1, 2, 12, 3, 14, 1, 9, 31)]
    predictor.predict(texts, batch=batch)
    assert sum(rows for _, (rows, _) in shapes) == len(texts)
    assert all(rows <= batch and longest <= 1.5 * shortest for shortest, (rows, longest) in shapes)


def test_no_texts_no_rows(trained: Trained) -> None:
    found = load_predictor(trained[0]).predict([])
    assert found.scores.shape == (0, 3)
    assert found.labels == []
    assert len(found.confidence) == 0


def test_superfluous_pairs_are_a_usage_error(trained: Trained) -> None:
    with pytest.raises(UsageError, match="one text"):
        load_predictor(trained[0]).predict(["a"], ["b"])


def test_onnx_forms_import_neither_torch_nor_transformers(trained: Trained) -> None:
    source = (
        "import sys; from pathlib import Path; from tokka.model.predictor import load_predictor\n"
        f"load_predictor(Path({str(trained[0])!r})).predict(['my card'])\n"
        "print([name for name in ('torch', 'transformers', 'lightning', 'sklearn', 'scipy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_threads_are_taken(trained: Trained) -> None:
    one, two = (load_predictor(trained[0], "fp32", threads=threads).predict(TEXTS) for threads in (1, 2))
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)


def test_regression_and_pairs(tmp_path: Path, make_params: MakeParams) -> None:
    from tests.fixtures.prepared_rows import make_prepared
    from tokka.training.finetuning import finetune

    prepared = make_prepared(tmp_path / "prepared", task="regression", pairs=True)
    params = make_params(task={"type": "regression", "text_pair": "text_pair"}, export={"serve": "fp32"}, epochs=6)
    outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert outcome["metrics"]["validation_mae"] < 4.0  # the classes lie 10 apart, a constant would err by 6.7
    predictor = load_predictor(tmp_path / "model")
    found = predictor.predict(["my card is lost", "print the paper page"], ["hello", "you"])
    assert predictor.task == "regression"
    assert found.scores.shape == (2, 1)
    assert found.values[0] < 8 < found.values[1]
    torch_values = load_predictor(tmp_path / "model", "torch").predict(["my card is lost"], ["hello"]).values
    np.testing.assert_allclose(torch_values, found.values[:1], atol=1e-2)
    with pytest.raises(UsageError, match="second one is missing"):
        predictor.predict(["my card"])
    with pytest.raises(UsageError, match="2 pairs"):
        predictor.predict(["my card"], ["a", "b"])
