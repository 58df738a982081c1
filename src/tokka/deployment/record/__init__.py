"""The truth of what serves: state, compare-and-set, owner, retraining attempts, target."""
