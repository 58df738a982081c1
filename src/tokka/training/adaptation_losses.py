"""The two ways to practise on text without labels: what a batch's loss is.

| Method      | Loss                                                              | Paper                  |
|-------------|-------------------------------------------------------------------|------------------------|
| contrastive | find a text's second dropout view among those of the whole batch  | Gao et al., 2021       |
| mlm         | name the hidden tokens                                            | Gururangan et al., 2020|
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokka.model.network import Specialist

# Of the tokens to be named, so many become [MASK] and so many another token; the rest stays as it is (Devlin, 2019).
MASKED, REPLACED = 0.8, 0.1
IGNORED = -100


class ContrastiveLoss(nn.Module):
    """Unsupervised SimCSE (Gao et al., 2021): InfoNCE between two dropout views of each text of a batch."""

    def __init__(self, model: Specialist, temperature: float) -> None:
        super().__init__()
        # In a list, so that the network's weights are not counted as this loss's own.
        self._model = [model]
        self.temperature = temperature

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The mean loss, in nats, of token ids (rows, tokens); the network must be in training mode."""
        rows = len(input_ids)
        both = self._model[0].embed(torch.cat([input_ids, input_ids]), torch.cat([attention_mask, attention_mask]))
        similarity = both[:rows] @ both[rows:].T / self.temperature
        return functional.cross_entropy(similarity, torch.arange(rows, device=similarity.device))


class MaskedLoss(nn.Module):
    """Masked language modelling (Gururangan et al., 2020) with the input embedding as output embedding.

    The transform before the tied table is new, starts at the identity, and is thrown away with this loss. `mask_id` is
    in the trimmed numbers; `special` (some,) ids are never hidden nor put in; `share` of the tokens are to be named.
    """

    special: Tensor
    words: Tensor

    def __init__(self, model: Specialist, mask_id: int, special: Tensor, share: float) -> None:
        super().__init__()
        self._model = [model]
        table: nn.Embedding = model.encoder.get_input_embeddings()  # type: ignore[operator]
        vocabulary, width = table.weight.shape
        self.dense = nn.Linear(model.head.linear.in_features, width)
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.mask_id, self.share = mask_id, share
        self.register_buffer("special", special)
        usable = torch.ones(vocabulary, dtype=torch.bool)
        usable[special] = False
        self.register_buffer("words", usable.nonzero()[:, 0])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The mean loss, in nats, over the hidden tokens of token ids (rows, tokens)."""
        noisy, wanted = self.hide(input_ids)
        encoder = self._model[0].encoder
        states = encoder(input_ids=noisy, attention_mask=attention_mask).last_hidden_state
        chosen = wanted != IGNORED
        if not bool(chosen.any()):  # nothing but special tokens: nothing to learn, and a mean over nothing is NaN
            nothing: Tensor = states.sum() * 0.0
            return nothing
        features = self.norm(functional.gelu(self.dense(states[chosen])))
        table: nn.Embedding = encoder.get_input_embeddings()  # type: ignore[operator]
        logits = features @ table.weight.T + self.bias
        return functional.cross_entropy(logits.float(), wanted[chosen])

    def hide(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy ids, and what to name: the true ids at the hidden places, IGNORED elsewhere; both (rows, tokens).

        Draws on the processor, so that every device hides the same tokens; at least one of a batch is hidden.
        """
        open_to = ~torch.isin(input_ids, self.special)
        draw = torch.rand(input_ids.shape).to(input_ids.device).masked_fill(~open_to, 2.0)
        chosen = (draw < self.share) | ((draw == draw.min()) & open_to)
        kind = torch.rand(input_ids.shape).to(input_ids.device)
        other = self.words[torch.randint(len(self.words), input_ids.shape).to(input_ids.device)]
        noisy = torch.where(chosen & (kind < MASKED), self.mask_id, input_ids)
        noisy = torch.where(chosen & (kind >= MASKED) & (kind < MASKED + REPLACED), other, noisy)
        return noisy, torch.where(chosen, input_ids, IGNORED)
