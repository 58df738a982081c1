"""The ONNX forms: float32, and int8 weights with dynamic activations."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tokka.model.engines import onnx_engine
from tokka.model.network import Specialist
from tokka.model.tokenising import pad
from tokka.progress import silent

OPSET = 17
_PROBED_LENGTHS = (2, 5, 9)
_SAME = 1e-4


def write_fp32(model: Specialist, path: Path, *, token_types: bool) -> None:
    """Trace the network with free numbers of rows and tokens; outputs logits and embedding."""
    rows, tokens = 2, 6
    ids = torch.arange(3, 3 + rows * tokens).reshape(rows, tokens)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0  # a mask of ones only would be traced away
    inputs: tuple[torch.Tensor, ...] = (ids, mask, torch.zeros_like(ids)) if token_types else (ids, mask)
    names = ["input_ids", "attention_mask", "token_type_ids"][: len(inputs)]
    axes: dict[str, dict[int, str]] = {name: {0: "rows", 1: "tokens"} for name in names}
    # The plainest attention gives the plainest graph: others bring twice the operators, and patterns nobody fuses.
    model.encoder.set_attn_implementation("eager")  # type: ignore[operator]
    with silent(), torch.no_grad():
        # The tracing exporter: the newer one takes four times as long and names one value twice here.
        torch.onnx.export(
            model.cpu().eval(),
            inputs,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["logits", "embedding"],
            dynamic_axes={**axes, "logits": {0: "rows"}, "embedding": {0: "rows"}},
        )


def write_int8(fp32: Path, path: Path, *, heads: int = 0, hidden: int = 0) -> None:
    """Quantise weights per output channel: on this encoder a quarter of the per-tensor error, 2 % slower.

    With `heads` and their width `hidden` each attention becomes one operator; 0 leaves them alone.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with silent(), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        fused = Path(scratch) / "fused.onnx"
        _fuse_attention(fp32, fused, heads, hidden)
        source = fused if _same_answers(fp32, fused) else fp32
        # The fused operators are the runtime's own: what type they give, shape inference does not know.
        options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(
            str(source), str(path), per_channel=True, weight_type=QuantType.QInt8, extra_options=options
        )  # fmt: skip


def _fuse_attention(fp32: Path, path: Path, heads: int, hidden: int) -> None:
    """One operator for each attention, where the runtime knows its shape: an eighth of a short text's time in int8.

    Float32 in batches gets slower by it.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = False
    options.enable_embed_layer_norm = options.enable_bias_gelu = False
    found = optimize_model(
        str(fp32), model_type="bert", num_heads=heads, hidden_size=hidden, optimization_options=options, opt_level=0
    )  # fmt: skip
    found.save_model_to_file(str(path))


def _same_answers(one: Path, other: Path) -> bool:
    """Whether two graphs answer alike, padding included: a pattern that only looks like attention is not fused."""
    import onnx

    engines = [onnx_engine(path.read_bytes(), torch.get_num_threads()) for path in (one, other)]
    ids, mask = pad([np.arange(3, 3 + length) for length in _PROBED_LENGTHS])
    known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    inputs = {wanted.name: known[wanted.name] for wanted in onnx.load(str(one)).graph.input}
    (outputs, vectors), (others, other_vectors) = (run(inputs) for run in engines)
    near = partial(np.allclose, rtol=0, atol=_SAME)
    return bool(near(outputs, others) and near(vectors, other_vectors))
