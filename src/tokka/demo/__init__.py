"""The life of a model, told by running it."""
