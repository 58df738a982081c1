"""What the int8 form is made of: attentions as one operator each, and only where that answers the same."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.fixtures.training import MakeParams
from tokka.model.engines import onnx_engine
from tokka.model.tokenising import TextEncoder, pad
from tokka.training import onnx_forms
from tokka.training.finetuning import finetune

TEXTS = [
    "my card is lost",
    "the printer will not print",
    "hello, how do I change the address of my order? thank you",
]


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_each_attention_is_one_operator_in_int8_and_none_in_float32(trained: tuple[Path, object]) -> None:
    folder, _ = trained
    assert operators(folder / "model.int8.onnx")["QAttention"] == 2
    assert operators(folder / "model.onnx").keys().isdisjoint({"Attention", "QAttention"})


def mean_gap(int8: Path, fp32: Path) -> float:
    """Between the logits of two forms, for texts one by one, as int8 is served."""
    one, other = (onnx_engine(path.read_bytes(), 1) for path in (int8, fp32))
    encoded = TextEncoder((fp32.parent / "tokenizer.json").read_bytes(), 64).encode(TEXTS, None)
    gaps = []
    for row in encoded.ids:
        ids, mask = pad([row])
        inputs = {"input_ids": ids, "attention_mask": mask}
        gaps.append(np.abs(one(inputs)[0] - other(inputs)[0]).mean())
    return float(np.mean(gaps))


def test_fused_int8_is_as_near_to_float32_as_plain_int8(trained: tuple[Path, object], tmp_path: Path) -> None:
    folder, _ = trained
    onnx_forms.write_int8(folder / "model.onnx", tmp_path / "plain.onnx")
    assert operators(tmp_path / "plain.onnx")["QAttention"] == 0
    forms = (folder / "model.int8.onnx", tmp_path / "plain.onnx")
    fused, plain = (mean_gap(path, folder / "model.onnx") for path in forms)
    assert 0 < fused < 1.2 * plain


def test_what_only_looks_like_attention_is_left_alone(
    trained: tuple[Path, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = trained
    fuse = onnx_forms._fuse_attention

    def fuse_wrongly(fp32: Path, path: Path, heads: int, hidden: int) -> None:
        fuse(fp32, path, heads, hidden)
        model = onnx.load(str(path))
        attention = next(node for node in model.graph.node if node.op_type == "Attention")
        # Without its mask it reads the padding.
        attention.input[3] = ""
        onnx.save(model, str(path))

    monkeypatch.setattr(onnx_forms, "_fuse_attention", fuse_wrongly)
    onnx_forms.write_int8(folder / "model.onnx", tmp_path / "model.int8.onnx", heads=2, hidden=32)
    assert operators(tmp_path / "model.int8.onnx")["QAttention"] == 0


def test_long_texts_have_the_same_graph(
    trained: tuple[Path, object],
    prepared: Path,
    make_params: MakeParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tokka.training.setup.training_setup.PLAIN_ATTENTION_TOKENS", 1)
    finetune(prepared, make_params(epochs=1), tmp_path / "model", tmp_path / "work")
    assert operators(tmp_path / "model" / "model.int8.onnx") == operators(trained[0] / "model.int8.onnx")
