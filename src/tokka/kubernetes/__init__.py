"""The Kubernetes API: the one connection, and what is asked of it by more than one part of the house."""
