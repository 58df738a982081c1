"""The thread that takes the gateway's log lines."""

import json
import socket

import pytest

from tests.fixtures.waiting import wait_for
from tokka.gateway.access_log import Receiver
from tokka.request_log.log import Writer, read


@pytest.mark.parametrize("line", [b"[" * 8000, b"\xff", b"{}", b""])
def test_the_log_of_the_gateway_outlives_nonsense(tmp_path, line):
    receiver = Receiver(Writer(tmp_path, "gateway"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(line, ("127.0.0.1", receiver.port))
    receiver._thread.join(0.5)
    assert receiver._thread.is_alive()
    receiver.close()


LINE = {
    "id": "0", "time_us": "1700000000000000", "protocol": "rest", "client": "-", "route": "predict", "status": "200",
    "grpc": "-", "latency_ms": "3", "share": "500", "assigned": "0", "canary": "0", "version": "3", "replayed": "0",
    "retries": "+1", "key": "-", "ended_us": "1700000000003000",
}  # fmt: skip


def test_a_burst_is_written_whole_and_shown_in_order_and_a_full_disk_costs_its_records_only(tmp_path):
    class Brittle(Writer):
        broken = False

        def append(self, records):
            if self.broken:
                raise OSError(28, "No space left on device")
            super().append(records)

    def send(numbers):
        for number in numbers:
            sender.sendto(json.dumps({**LINE, "id": str(number)}).encode(), ("127.0.0.1", receiver.port))
        wait_for(lambda: receiver.received + receiver.lost >= numbers.stop)

    seen: list[str] = []
    writer = Brittle(tmp_path, "gateway")
    receiver = Receiver(writer, lambda record: seen.append(record["prediction_id"]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        send(range(100))
        writer.broken = True
        send(range(100, 110))
        writer.broken = False
        send(range(110, 120))
    receiver.close()
    written = [*map(str, range(100)), *map(str, range(110, 120))]
    assert seen == written
    assert sorted(record["prediction_id"] for record in read(tmp_path)) == sorted(written)
    assert (receiver.received, receiver.lost) == (110, 10)
    assert read(tmp_path)[0]["retries"] == 1
