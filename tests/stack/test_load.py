"""The short form of benchmarks/load.py: no request is lost while the stack is steered and hurt."""

import math

from benchmarks import load


def test_promotions_rollbacks_and_killed_workers_cost_no_request(world):
    # Half the benchmark's rate: beside other tests, a machine of two cores may not have more to give.
    result = load.measure(world, seconds=15.0, say=print, rate=50.0)
    print("\n".join(load.lines(result)))
    assert len(result.load.statuses) == 750
    # A request that waits for 15 seconds is an error here; how long they wait is for the benchmark to say.
    assert result.load.errors == [] and result.load.failed == 0
    assert (result.changes, result.kills) == (load.CYCLES * 2, load.CYCLES)
    # Four standard deviations of so few draws; and a killed challenger's share goes to the champion for a moment.
    spread = 4 * math.sqrt(load.SHARE * (1 - load.SHARE) / result.split_requests)
    assert abs(result.split_seen - load.SHARE) <= spread + load.SPLIT_BAR
