"""The network and its files: base model, configuration, tokenising, model folder, engines, predictor."""
