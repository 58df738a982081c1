"""Fakes at the seams: clock, registry, and what serves."""
