"""One fit with Lightning: callbacks, budget, checkpoints, signals, data-parallel ranks."""
