"""The three pipelines, one inside the other: retrain ⊃ specialise ⊃ rollout."""
