"""KServe as a rollout's target: what a state of the record asks of an InferenceService, and who brings it about."""
