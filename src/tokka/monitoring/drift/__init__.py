"""Is it drifting, and is a retraining due: pure decisions over windows."""
