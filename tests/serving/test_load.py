"""The short form of benchmarks/load.py: no request is lost while the stack is steered and hurt."""

import math

from benchmarks import load


def test_promotions_rollbacks_and_killed_workers_cost_no_request(world):
    result = load.measure(world, seconds=15.0, say=print)
    print("\n".join(load.lines(result)))
    assert len(result.load.statuses) == 1500
    assert result.load.errors == [] and result.load.failed == 0
    assert (result.changes, result.kills) == (load.CYCLES * 2, load.CYCLES)
    # Four standard deviations of so few draws; and a killed challenger's share goes to the champion for a moment.
    spread = 4 * math.sqrt(load.SHARE * (1 - load.SHARE) / result.split_requests)
    assert abs(result.split_seen - load.SHARE) <= spread + load.SPLIT_BAR
    # The bar of 2 x is for a machine of its own; on a busy one a stall of seconds would still be seen.
    assert result.load.quantile(0.99) < 1000
