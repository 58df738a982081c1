"""The network: an encoder, one vector per text, and a linear head for classes or for a number."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokka.errors import Refused
from tokka.model.base import weight_files
from tokka.model.configuration import EncoderConfig, read_encoder_config

# Unit-length features need a longer reach than 1, or the head's logits stay flat (field-tested on BANKING77).
FEATURE_SCALE = 10.0


class Head(nn.Module):
    """A linear layer; for regression, `scale` and `shift` turn its standardised output into the target's unit."""

    scale: Tensor
    shift: Tensor

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, outputs)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (rows, hidden) to outputs (rows, outputs)."""
        outputs: Tensor = self.linear(features) * self.scale + self.shift
        return outputs


class Specialist(nn.Module):
    """Encoder, pooling, unit length, scale, head."""

    def __init__(self, encoder: nn.Module, *, outputs: int, pooling: str, feature_scale: float = FEATURE_SCALE) -> None:
        super().__init__()
        self.encoder = encoder
        config: Any = encoder.config  # transformers ships no types
        self.head = Head(int(config.hidden_size), outputs)
        self.pooling = pooling
        self.feature_scale = feature_scale

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Unit-length vectors (rows, hidden) in float32 of token ids (rows, tokens)."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        states = self.encoder(**inputs).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = states[:, 0] if self.pooling == "cls" else (states * mask).sum(1) / mask.sum(1)
        return functional.normalize(pooled, dim=-1)

    def classify(self, embedding: Tensor) -> Tensor:
        """Logits, or values, (rows, outputs) of unit-length vectors; always in float32, where loss is computed."""
        with torch.autocast(embedding.device.type, enabled=False):
            outputs: Tensor = self.head(embedding * self.feature_scale)
        return outputs

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits or values (rows, outputs), and the unit-length vectors (rows, hidden)."""
        embedding = self.embed(input_ids, attention_mask, token_type_ids)
        return self.classify(embedding), embedding


def as_safetensors(state: Mapping[str, Tensor]) -> bytes:
    """Named weights as the content of a safetensors file, wherever they are."""
    from safetensors.torch import save

    content: bytes = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    return content


def load_encoder(folder: Path) -> nn.Module:
    """The encoder of a checked base-model folder; Refused when a weight is missing, misshapen or not finite."""
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        state.update(load_file(path))
    encoder = build_encoder(read_encoder_config(folder / "config.json"))
    # A task model puts a prefix before the names, and older files name the weights of a norm otherwise.
    prefix, found = f"{getattr(encoder, 'base_model_prefix', '')}.", dict[str, Tensor]()
    for name, value in state.items():
        name = name.removeprefix(prefix).replace("LayerNorm.gamma", "LayerNorm.weight")
        found[name.replace("LayerNorm.beta", "LayerNorm.bias")] = value
    wanted = encoder.state_dict()
    for name, value in wanted.items():
        if name not in found and name.endswith(("position_ids", "token_type_ids")):
            found[name] = value
        if name not in found or found[name].shape != value.shape:
            state_of = "missing" if name not in found else f"of shape {tuple(found[name].shape)}"
            raise Refused(f"{folder}: weight {name} is {state_of}, expected {tuple(value.shape)}")
        if found[name].is_floating_point() and not bool(torch.isfinite(found[name]).all()):
            raise Refused(f"{folder}: weight {name} holds NaN or infinity", "fetch the base model again")
    encoder.load_state_dict({name: found[name] for name in wanted})
    return encoder


def build_encoder(config: EncoderConfig) -> nn.Module:
    """An encoder with random weights from allow-listed configuration keys, without a pooling layer of its own."""
    from transformers import AutoConfig, AutoModel

    keys = {key: value for key, value in config.items() if key != "model_type"}
    settings = AutoConfig.for_model(config["model_type"], **keys)
    # Without a word about attention, transformers takes the fused kernel (SDPA) wherever the network has it.
    encoder: nn.Module = AutoModel.from_config(settings)
    if hasattr(encoder, "pooler"):
        encoder.register_module("pooler", None)
    return encoder


def encoder_layers(encoder: nn.Module) -> nn.ModuleList:
    """The transformer layers, first to last."""
    stacks = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    return max(stacks, key=len)
