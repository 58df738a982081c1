"""What computes a batch: ONNX Runtime, or torch where no ONNX form is wanted."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tokka.errors import Refused
from tokka.model.configuration import EncoderConfig
from tokka.model.folder import ModelConfig
from tokka.model.tokenising import Encoded, Ids

# A row may be padded to so many times its own length: more costs more than the larger batch saves.
MOST_PADDING = 1.5
# The fused operator takes several times as long as the sum and the normalisation that it stands for: a sixth of a
# short text's time in int8.
_SLOWER = ["SkipLayerNormFusion"]
Floats = NDArray[np.float32]
# Padded input arrays by name in; outputs (rows, labels or 1) and unit-length vectors (rows, hidden) out.
Engine = Callable[[dict[str, Ids]], tuple[Floats, Floats]]


def onnx_engine(content: bytes, threads: int) -> Engine:
    """A session of its own pool of `threads` that never spins: idle workers cost nothing. Refused for no model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
        )  # fmt: skip
    except Exception as error:  # the runtime's errors share no base class
        raise Refused(f"the ONNX model cannot be loaded: {str(error)[:160]}", "train the model again") from None
    # The wrapper keeps what it was made from, for a fallback to other providers: as large as the model once more.
    session._model_bytes = None

    def run(inputs: dict[str, Ids]) -> tuple[Floats, Floats]:
        outputs, embedding = session.run(["logits", "embedding"], inputs)
        return outputs, embedding

    return run


def torch_engine(config: ModelConfig, encoder: EncoderConfig, weights: bytes, threads: int) -> Engine:
    """The network itself, in float32; `weights` is a safetensors file's content, `threads` holds for the process."""
    import torch
    from safetensors.torch import load

    from tokka.model.network import Specialist, build_encoder

    torch.set_num_threads(threads)
    outputs = max(1, len(config.labels))
    with torch.random.fork_rng():
        model = Specialist(
            build_encoder(encoder), outputs=outputs, pooling=config.pooling, feature_scale=config.feature_scale
        )  # fmt: skip
    model.load_state_dict(load(weights))
    model.eval()

    def run(inputs: dict[str, Ids]) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            outputs, embedding = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return outputs.numpy(), embedding.numpy()

    return run


def rows_per_run(form: str, batch: int) -> int:
    """How many texts one run of the network may hold: as many as asked for, and one in int8.

    Int8 rounds the activations of a run on one scale, which neighbours shift: an answer would depend on who asks at
    the same moment. Text by text is also faster there than padding.
    """
    return 1 if form == "int8" else batch


def run_in_batches(
    engine: Engine, encoded: Encoded, *, batch: int, padding: int, token_types: bool
) -> tuple[Floats, Floats]:
    """Run rows of like length together, at most `batch`, and give outputs and vectors back in the rows' own order."""
    lengths = encoded.lengths
    if len(lengths) == 1:
        return engine(encoded.padded([0], padding, token_types))
    order = np.argsort(lengths, kind="stable")
    found = [engine(encoded.padded(rows, padding, token_types)) for rows in _cut(order, lengths, batch)]
    outputs, embeddings = (np.concatenate(parts) for parts in zip(*found, strict=True))
    back = np.argsort(order, kind="stable")
    return outputs[back], embeddings[back]


def _cut(order: Ids, lengths: Ids, batch: int) -> Iterator[Ids]:
    start = 0
    while start < len(order):
        longest = MOST_PADDING * lengths[order[start]]
        fits = int(np.searchsorted(lengths[order[start : start + batch]], longest, side="right"))
        yield order[start : start + max(1, fits)]
        start += max(1, fits)
