"""Measurements on one frozen test set: quality with intervals, comparison, slices, calibration, cost."""
