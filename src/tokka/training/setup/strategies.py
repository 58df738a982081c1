"""Which part of the network learns, and when: all of it, the last layers, adapters, or layer after layer."""

from typing import TYPE_CHECKING

from torch import nn

from tokka.model.network import Specialist, encoder_layers
from tokka.sections import Finetuning, Lora

if TYPE_CHECKING:
    from peft.tuners.lora import LoraModel

# Everything is free after this share of the steps: the rest is for learning together.
UNFREEZING_SHARE = 0.5


def freeze(model: Specialist, params: Finetuning) -> None:
    """Leave only what the strategy trains with gradients; gradual starts with everything, for the optimizer's sake."""
    if params.strategy not in {"full", "contrastive", "gradual"}:
        layers = min(params.layers, len(encoder_layers(model.encoder)))
        unfreeze(model, layers if params.strategy == "partial" else 0)


def add_adapters(encoder: nn.Module, params: Lora) -> "LoraModel":
    """Put low-rank adapters (Hu et al., 2021) beside every linear layer of the transformer layers, and freeze the rest.

    They start at zero; `merge_and_unload` of what is returned puts what they learned into the weights, in place.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    inside = {id(module) for module in encoder_layers(encoder).modules()}
    names = [name for name, part in encoder.named_modules() if isinstance(part, nn.Linear) and id(part) in inside]
    config = LoraConfig(r=params.rank, lora_alpha=params.alpha, lora_dropout=params.dropout, target_modules=names)
    return LoraModel(encoder, config, "default")


def unfrozen_layers(step: int, total: int, layers: int) -> int:
    """How many layers, 0 to layers + 1, learn beside the head in this step (from 1), the embeddings being the last.

    Gradual unfreezing (Howard & Ruder, 2018): one more from the top per equal share of the first half of `total` steps.
    """
    groups = layers + 1
    return min(groups, int((step - 1) * groups / (UNFREEZING_SHARE * total)))


def unfreeze(model: Specialist, count: int) -> None:
    """Let the last `count` layers and the head learn; one more than there are layers means the embeddings as well."""
    layers = list(encoder_layers(model.encoder))
    model.encoder.requires_grad_(count > len(layers))
    for layer in layers[len(layers) - min(count, len(layers)) :]:
        layer.requires_grad_(True)
