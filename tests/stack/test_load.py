"""The short form of benchmarks/load.py: no request is lost while the stack is steered and hurt."""

import math

from benchmarks import load
from tests.fixtures.waiting import PATIENCE_S


def test_promotions_rollbacks_and_killed_workers_cost_no_request(world):
    # Half the benchmark's rate. A machine too busy for it answers late, and each request is waited for all the same.
    result = load.measure(world, seconds=15.0, say=print, rate=50.0, limit_s=PATIENCE_S)
    print("\n".join(load.lines(result)))
    assert len(result.load.statuses) == 750
    assert result.load.errors == [] and result.load.failed == 0
    assert (result.changes, result.kills) == (load.CYCLES * 2, load.CYCLES)
    # Four standard deviations of so few draws; and a killed challenger's share goes to the champion for a moment.
    spread = 4 * math.sqrt(load.SHARE * (1 - load.SHARE) / result.split_requests)
    assert abs(result.split_seen - load.SHARE) <= spread + load.SPLIT_BAR
