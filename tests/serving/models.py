"""Model folders as the pipeline makes them, small enough to be made in a moment: no torch, one embedding, one layer.

Everything around the weights is real: tokenizer, ONNX in float32 and int8, tokka.json, digest, signature.
"""

import shutil
from pathlib import Path

import numpy as np

from tests.fixtures.tiny_model import _make_tokenizer as make_tokenizer
from tokka.settings import Settings

LABELS = ("card", "order", "password", "printer", "refund")
HIDDEN = 32


def make_model(
    folder: Path, *, seed: int, labels: tuple[str, ...] = LABELS, pairs: bool = False, temperature: float = 1.0
) -> str:
    """Write a model folder with its ONNX forms and return its digest; no labels make a regression."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from tokka.training.model_folder import model_digest, write_model_config

    folder.mkdir(parents=True)
    words = make_tokenizer(folder / "tokenizer.json")
    _write_network(folder / "model.onnx", words, max(1, len(labels)), seed=seed, pairs=pairs)
    quantize_dynamic(folder / "model.onnx", folder / "model.int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    write_model_config(folder, {
        "task": "classification" if labels else "regression", "labels": labels, "text_pair": pairs, "max_tokens": 64,
        "pooling": "mean", "feature_scale": 10.0, "temperature": temperature, "token_types": pairs, "padding": 0,
        "base": {"name": "tiny", "digest": "0" * 64}, "serve": "int8",
    })  # fmt: skip
    return model_digest(folder)


def deploy(source: Path, digest: str, settings: Settings) -> Path:
    """Put a signed copy where workers are started from."""
    from tokka.registry import signing

    target = settings.home / "models" / digest
    shutil.copytree(source, target)
    signing.sign(target, settings)
    return target


def _write_network(path: Path, words: int, outputs: int, *, seed: int, pairs: bool) -> None:
    """Embed, average over the mask, scale to unit length, one linear layer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)
    weights = {
        "table": random.normal(size=(words, HIDDEN)),
        "head": random.normal(size=(HIDDEN, outputs)) * 3,
        "types": random.normal(size=(2, HIDDEN)),
    }
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    axes = [numpy_helper.from_array(np.array([axis], np.int64), f"axis{axis}") for axis in (1, 2)]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis2"], ["wide"]),
        *(
            [
                helper.make_node("Gather", ["types", "token_type_ids"], ["parts"]),
                helper.make_node("Add", ["words", "parts"], ["vectors"]),
            ]
            if pairs
            else [helper.make_node("Identity", ["words"], ["vectors"])]
        ),
        helper.make_node("Mul", ["vectors", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "axis1"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["embedding"], axis=-1, p=2),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
    ]
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if pairs else [])]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in names]
    shapes = {"logits": outputs, "embedding": HIDDEN}
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size]) for name, size in shapes.items()]
    used = constants if pairs else constants[:2]
    graph = helper.make_graph(nodes, "tiny", inputs, results, [*used, *axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
