"""From a model folder to answers, and the log of them."""
