"""The pipelines: retrain ⊃ specialise ⊃ rollout, one inside the other, and tune beside them."""
