"""The weights' exponential moving average: validated, kept as best, and exported in place of the last weights."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Averaging(WeightAveraging):  # type: ignore[misc]  # Lightning ships no types that we read
    """Lightning's averaging with a decay per optimizer step, and the average at hand.

    Args:
        decay: of the average in each step; the first step's weights start it.
    """

    def __init__(self, decay: float) -> None:
        # Averaged buffers would cut whole numbers, such as position ids, to the next lower one.
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    def weights(self) -> dict[str, Tensor]:
        """The specialist's averaged weights by name; only once training has been set up."""
        assert self._average_model is not None
        found: dict[str, Tensor] = self._average_model.module.model.state_dict()
        return found
