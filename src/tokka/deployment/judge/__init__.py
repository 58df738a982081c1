"""Promote, wait or roll back: sequential tests over evidence, nothing that touches the world."""
