"""The request log: what was acknowledged is there, what was cut off is counted and costs nothing else."""

import os
import signal
import subprocess
import sys
import time

from hypothesis import given
from hypothesis import strategies as st

from tokka.request_log import log
from tokka.request_log.framing import frame
from tokka.request_log.log import Tail, Writer, read, scan


def prediction(name, moment, **facts):
    return {"kind": "prediction", "prediction_id": name, "time": moment, "version": "1", **facts}


def test_what_is_written_is_read_in_order_of_time(tmp_path):
    now = time.time()
    first, second = Writer(tmp_path, "worker"), Writer(tmp_path, "gateway")
    first.append([prediction("b", now + 2), prediction("a", now + 1)])
    second.append([{"kind": "request", "prediction_id": "a", "time": now + 1.5, "status": 200}])
    assert [record["prediction_id"] for record in read(tmp_path)] == ["a", "a", "b"]
    assert [record["time"] for record in read(tmp_path, since=now + 1.5)] == [now + 1.5, now + 2]
    assert read(tmp_path / "nowhere") == []


def test_a_torn_last_line_is_counted_and_nothing_else_is_lost(tmp_path):
    writer = Writer(tmp_path, "worker")
    writer.append([prediction("a", 1.0), prediction("b", 2.0)])
    (segment,) = tmp_path.iterdir()
    with segment.open("ab") as file:
        file.write(b'{"kind": "prediction", "predic')
    found = scan(tmp_path)
    assert ([record["prediction_id"] for record in found.records], found.torn, found.damaged) == (["a", "b"], 1, 0)
    # The same process number, again on the same day.
    again = Writer(tmp_path, "worker")
    again.append([prediction("c", 3.0)])
    found = scan(tmp_path)
    assert ([record["prediction_id"] for record in found.records], found.torn, found.damaged) == (["a", "b", "c"], 0, 1)


def test_lines_that_are_no_records_are_counted(tmp_path):
    lines = [b"[]", b"{}", b'{"kind": "other", "prediction_id": "a", "time": 1}', b"\xff\xfe", b'{"kind": "feedback"}']
    (tmp_path / "20300101-x-1.v1.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    found = scan(tmp_path)
    assert (found.records, found.damaged) == ([], len(lines))


def test_a_tail_gives_each_record_once_and_waits_for_the_newline(tmp_path):
    writer, tail = Writer(tmp_path, "worker"), Tail(tmp_path)
    assert tail.poll().records == []
    writer.append([prediction("a", 1.0)])
    assert [record["prediction_id"] for record in tail.poll().records] == ["a"]
    (segment,) = tmp_path.iterdir()
    with segment.open("ab") as file:
        content = frame(prediction("b", 2.0))
        file.write(content[:20])
        file.flush()
        assert tail.poll().records == []
        file.write(content[20:])
    assert [record["prediction_id"] for record in tail.poll().records] == ["b"]
    assert tail.poll().records == []


@given(st.lists(st.text(min_size=1, max_size=40).filter(lambda text: text.strip()), max_size=8))
def test_any_text_comes_back_as_it_was(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("log")
    rows = [prediction(str(number), float(number), text=text) for number, text in enumerate(texts)]
    Writer(folder, "worker").append(rows)
    assert read(folder) == rows


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tokka.request_log.log import Writer\n"
        "w = Writer(Path(sys.argv[1]), 'worker')\n"
        "for n in range(10**6):\n"
        "    w.append([{'kind': 'prediction', 'prediction_id': str(n), 'time': float(n)}]); print(n, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    lines = [child.stdout.readline() for _ in range(500)]
    os.kill(child.pid, signal.SIGKILL)
    acknowledged = int((lines + child.stdout.read().split(b"\n")[:-1])[-1])
    child.wait()
    child.stdout.close()
    assert [int(record["prediction_id"]) for record in read(tmp_path)][: acknowledged + 1] == list(
        range(acknowledged + 1)
    )


def test_a_new_day_is_a_new_segment(tmp_path, monkeypatch):
    writer = Writer(tmp_path, "worker")
    monkeypatch.setattr(log.time, "time", lambda: 86_399.0)
    writer.append([prediction("a", 86_399.0)])
    monkeypatch.setattr(log.time, "time", lambda: 86_401.0)
    writer.append([prediction("b", 86_401.0)])
    assert sorted(path.name[:8] for path in tmp_path.iterdir()) == ["19700101", "19700102"]
    assert [record["prediction_id"] for record in read(tmp_path, since=86_400.0)] == ["b"]
