"""Benchmarks: ratios against peers, each in one run."""
