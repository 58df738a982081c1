"""Versions, their evidence, signatures and reviews."""
