"""Is the candidate better? Metrics with intervals, comparison, cost, the general baseline, the gate and the report."""
