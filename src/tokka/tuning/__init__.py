"""Better values for params.yaml: a search on validation rows, written back as a diff."""
