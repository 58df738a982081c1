"""Records reach the disk in groups."""

import os

from tests.fixtures.waiting import wait_for
from tokka.request_log.group_sync import GroupSync


def test_records_reach_the_disk_in_groups_within_a_bound(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    sync = GroupSync(interval=0.1, records=50)
    for _ in range(40):
        sync.wrote(descriptor, 1)
    wait_for(lambda: sync.syncs == 1)
    slow = GroupSync(interval=60.0, records=50)
    for _ in range(50):
        slow.wrote(descriptor, 1)
    wait_for(lambda: slow.syncs == 1)
    slow.wrote(descriptor, 1)
    slow.close()
    assert slow.syncs == 2
    sync.close()
    os.close(descriptor)
