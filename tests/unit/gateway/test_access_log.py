"""The gateway's log lines: what each says, and the thread that takes them."""

import json
import socket
import stat
from pathlib import Path

import pytest

from tests.fixtures.waiting import wait_for
from tokka.gateway.access_log import Receiver, listen, parse
from tokka.request_log.log import Writer, read

LINE = {
    "id": "x", "time_us": 12345000, "protocol": "rest", "client": "-", "grpc": "-",
    "route": "predict", "status": 200, "latency_ms": 7, "share": 500, "assigned": "1",
    "canary": "1", "version": "2", "replayed": "0", "retries": "0", "key": "-", "ended_us": 12351500,
    "trusted": "0", "named": "-", "shed": "-", "end": "--", "answered_us": "-",
}  # fmt: skip


@pytest.mark.parametrize("line", [b"[" * 8000, b"\xff", b"{}", b""])
def test_the_log_of_the_gateway_outlives_nonsense(tmp_path, line):
    with listen(tmp_path / "stack") as listening:
        receiver = Receiver(Writer(tmp_path, "gateway"), listening)
        with calling(tmp_path / "stack") as sender:
            # What comes after it is taken.
            sender.sendall(line + b"\n" + json.dumps(LINE).encode() + b"\n")
            wait_for(lambda: receiver.received == 1)
        receiver.close()


def test_nobody_else_can_put_in_a_line(tmp_path):
    with listen(tmp_path / ("long " * 40).strip() / "stack"):
        (socket_file,) = tmp_path.glob("*/stack/log.sock")
        assert stat.S_IMODE(socket_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket_file.parent.stat().st_mode) == 0o700


def test_a_line_in_two_parts_is_one_and_a_successor_takes_what_came_in_between(tmp_path):
    content = json.dumps(LINE).encode() + b"\n"
    with listen(tmp_path / "stack") as listening:
        first = Receiver(Writer(tmp_path, "gateway"), listening)
        with calling(tmp_path / "stack") as sender:
            sender.sendall(content + content[:50])
            wait_for(lambda: first.received == 1)
            sender.sendall(content[50:])
            wait_for(lambda: first.received == 2)
        first.close()
        with calling(tmp_path / "stack") as sender:
            sender.sendall(content)
        second = Receiver(Writer(tmp_path, "gateway"), listening)
        wait_for(lambda: second.received == 1)
        second.close()


def test_a_burst_is_written_whole_and_shown_in_order_and_a_full_disk_costs_its_records_only(tmp_path):
    class Brittle(Writer):
        broken = False

        def append(self, records):
            if self.broken:
                raise OSError(28, "No space left on device")
            super().append(records)

    def send(numbers):
        for number in numbers:
            sender.sendall(json.dumps({**LINE, "id": str(number), "retries": "+1"}).encode() + b"\n")
        wait_for(lambda: receiver.received + receiver.lost >= numbers.stop)

    seen: list[str] = []
    writer = Brittle(tmp_path, "gateway")
    with listen(tmp_path / "stack") as listening:
        receiver = Receiver(writer, listening, lambda record: seen.append(record["prediction_id"]))
        with calling(tmp_path / "stack") as sender:
            send(range(100))
            writer.broken = True
            send(range(100, 110))
            writer.broken = False
            send(range(110, 120))
        receiver.close()
    written = [*map(str, range(100)), *map(str, range(110, 120))]
    assert seen == [*map(str, range(120))]
    assert sorted(record["prediction_id"] for record in read(tmp_path)) == sorted(written)
    assert (receiver.received, receiver.lost) == (110, 10)
    assert read(tmp_path)[0]["retries"] == 1


def calling(folder: Path) -> socket.socket:
    """A connection to the log's socket, as HAProxy has one; the path may be short here."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.connect(str(folder / "log.sock"))
    return found


def test_a_log_line_is_a_record():
    record = parse(json.dumps(LINE).encode())
    assert record == {
        "kind": "request", "prediction_id": "x", "time": 12.345, "route": "predict", "status": 200, "latency_ms": 6.5,
        "protocol": "rest", "client": "",
        "share": 0.05, "canary": True, "stand_in": False, "version": "2", "replayed": False, "retries": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("ended", "wanted"), [(12345400, 0.4), (12345000, 0.0), (12344000, 7.0), (99999000, 7.0)])
def test_the_time_of_a_request_begins_when_it_is_there_and_a_clock_that_was_set_is_not_believed(ended, wanted):
    assert parse(json.dumps({**LINE, "ended_us": ended}).encode())["latency_ms"] == wanted


def test_a_line_names_whom_the_split_keeps_on_one_side():
    assert parse(json.dumps({**LINE, "key": "17446744073709551615"}).encode())["key"] == "17446744073709551615"
    assert "key" not in parse(json.dumps(LINE).encode())


@pytest.mark.parametrize(
    ("changes", "canary", "stand_in"),
    [({"canary": "0"}, True, True), ({"canary": "-"}, True, False), ({"assigned": "0", "canary": "0"}, False, False)],
)
def test_a_champion_that_stands_in_is_told_from_a_canary(changes, canary, stand_in):
    record = parse(json.dumps({**LINE, **changes}).encode())
    assert (record["canary"], record["stand_in"]) == (canary, stand_in)


@pytest.mark.parametrize(
    ("grpc", "status"), [("-", 200), ("0", 200), ("3", 400), ("16", 401), ("14", 503), ("13", 500)]
)
def test_a_grpc_status_is_logged_in_http_s_words(grpc, status):
    assert parse(json.dumps({**LINE, "protocol": "grpc", "grpc": grpc}).encode())["status"] == status


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"trusted": "1"}, "trusted"), ({"named": "1"}, "named"), ({"shed": "1"}, "shed"), ({"end": "CD"}, "aborted"),
     ({"end": "cD"}, "aborted")],
)  # fmt: skip
def test_a_line_says_what_makes_a_request_no_evidence(changes, told):
    assert parse(json.dumps({**LINE, **changes}).encode())[told] is True
    assert told not in parse(json.dumps({**LINE, "end": "SD"}).encode())


def test_how_long_a_client_reads_is_not_the_answer_s_time():
    line = {**LINE, "answered_us": "12350000", "ended_us": 12999000, "latency_ms": 654}
    assert parse(json.dumps(line).encode())["latency_ms"] == 5.0


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"id": 1}', json.dumps({**LINE, "route": "health"}).encode()])
def test_other_lines_are_no_records(line):
    assert parse(line) is None
