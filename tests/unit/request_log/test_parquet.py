"""Damage costs what it hits and is counted; sealing and deleting lose and double nothing, whenever they are killed."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.monitoring.drift.windows import predictions
from tokka.request_log import parquet, segments
from tokka.request_log.framing import frame
from tokka.request_log.log import Tail, Writer, read, scan

DAY = 86_400.0
RECORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=6)


def prediction(name, moment=1.0, **facts):
    return {"kind": "prediction", "prediction_id": name, "time": moment, "version": "1", **facts}


def write(folder, *records):
    writer = Writer(folder, "worker")
    writer.append(records)
    writer.close()
    return next(folder.glob("*.v1.jsonl"))


def seal(folder):
    (name,) = segments.names(folder)
    assert parquet.seal(folder, name)
    assert [path.suffix for path in folder.iterdir()] == [".parquet"]


def names(folder, **named):
    return [record["prediction_id"] for record in read(folder, **named)]


@given(RECORDS, st.data(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_costs_its_own_record_at_most_and_is_counted(tmp_path_factory, texts, data, sealed):
    folder = tmp_path_factory.mktemp("log")
    rows = [prediction(str(number), float(number), text=text) for number, text in enumerate(texts)]
    path = write(folder, *rows)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    if sealed:
        seal(folder)
    found = scan(folder)
    others = [row for row, (start, end) in zip(rows, spans(rows), strict=True) if not start <= place < end]
    assert [row for row in found.records if row in others] == others
    assert all(row in rows for row in found.records)
    assert len(found.records) == len(rows) or found.damaged + found.torn >= 1


@given(RECORDS, st.data(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_torn_tail_costs_its_own_record_alone_and_is_counted(tmp_path_factory, texts, data, sealed):
    folder = tmp_path_factory.mktemp("log")
    rows = [prediction(str(number), float(number), text=text) for number, text in enumerate(texts)]
    path = write(folder, *rows)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    whole = sum(end <= cut for _, end in spans(rows))
    # A record of which nothing but its first newline is left was never there.
    rest = content[sum(len(frame(row)) for row in rows[:whole]) : cut].strip(b"\n")
    if sealed and content[:cut].strip(b"\n"):
        seal(folder)
    else:
        # The same process number writes on: nothing is glued together.
        again = Writer(folder, "worker")
        again.append([prediction("new", 99.0)])
        again.close()
        rows = [*rows[:whole], prediction("new", 99.0)]
        whole = len(rows)
    found = scan(folder)
    # The checksum may be all there, with but the last newline missing: then the mended record is a whole one.
    assert [row for row in found.records if row in rows[:whole]] == rows[:whole]
    assert found.damaged + found.torn == bool(rest) or len(found.records) == whole + 1


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_and_sealed_to_the_same(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("log")
    (folder / "20300101-x-1.v1.jsonl").write_bytes(frame(prediction("good", 5.0)) + content)
    before = scan(folder)
    assert before.records[0] == prediction("good", 5.0)
    seal(folder)
    assert scan(folder) == before


def test_a_tail_goes_on_in_the_sealed_form(tmp_path):
    tail, writer = Tail(tmp_path), Writer(tmp_path, "worker")
    writer.append([prediction("a", 1.0)])
    assert [row["prediction_id"] for row in tail.poll().records] == ["a"]
    writer.append([prediction("b", 2.0)])
    writer.close()
    seal(tmp_path)
    assert [row["prediction_id"] for row in tail.poll().records] == ["b"]
    assert tail.poll().records == []


def test_who_writes_is_not_sealed_and_who_comes_later_gets_another_segment(tmp_path):
    writer = Writer(tmp_path, "worker")
    writer.append([prediction("a", 1.0)])
    (name,) = segments.names(tmp_path)
    assert not parquet.seal(tmp_path, name)
    writer.close()
    seal(tmp_path)
    writer.append([prediction("b", 2.0)])
    writer.close()
    assert len(segments.names(tmp_path)) == 2
    assert names(tmp_path) == ["a", "b"]


def test_a_writer_goes_round_a_segment_that_is_being_sealed(tmp_path):
    path = write(tmp_path, prediction("a", 1.0))
    with path.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        Writer(tmp_path, "worker").append([prediction("b", 2.0)])
    assert len(segments.names(tmp_path)) == 2
    assert names(tmp_path) == ["a", "b"]


def test_a_full_segment_is_followed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 200)
    writer = Writer(tmp_path, "worker")
    for number in range(9):
        writer.append([prediction(str(number), float(number))])
    writer.close()
    assert len(segments.names(tmp_path)) > 2
    assert sorted(names(tmp_path)) == [str(number) for number in range(9)]


def test_a_kill_between_sealed_and_gone_doubles_nothing(tmp_path):
    path = write(tmp_path, prediction("a", 1.0))
    content = path.read_bytes()
    seal(tmp_path)
    path.write_bytes(content)
    assert names(tmp_path) == ["a"]
    seal(tmp_path)
    assert names(tmp_path) == ["a"]


def test_a_sealed_file_that_was_damaged_is_counted_and_the_rest_is_read(tmp_path):
    write(tmp_path, prediction("a", 1.0))
    seal(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    write(tmp_path, prediction("b", 2.0))
    found = scan(tmp_path)
    assert ([row["prediction_id"] for row in found.records], found.damaged) == (["b"], 1)


def test_late_feedback_is_joined_to_a_sealed_prediction(tmp_path):
    write(tmp_path, prediction("a", 1.0, label="card"))
    seal(tmp_path)
    write(tmp_path, {"kind": "feedback", "prediction_id": "a", "time": 40 * DAY, "label": "order"})
    (row,) = predictions(read(tmp_path))
    assert row["feedback"]["label"] == "order"


@pytest.mark.parametrize("ending", [".jsonl", ".crc.jsonl", ".v2.jsonl", ".v2.parquet", ".parquet"])
def test_a_segment_of_another_version_is_named_and_neither_read_nor_sealed_nor_deleted(tmp_path, ending):
    other = tmp_path / f"20200101-worker-7{ending}"
    other.write_bytes(frame(prediction("other", 5.0)))
    write(tmp_path, prediction("a", 6.0))
    found = scan(tmp_path)
    assert ([row["prediction_id"] for row in found.records], found.unknown) == (["a"], (other.name,))
    assert (found.torn, found.damaged) == (0, 0)
    assert parquet.seal_all(tmp_path, time.time() + DAY) == 1
    assert parquet.delete_before(tmp_path, 7.0) == 1
    assert other.read_bytes() == frame(prediction("other", 5.0))


def test_nothing_acknowledged_is_lost_when_writer_and_sealer_are_killed_again_and_again(tmp_path):
    write_many = (
        "import sys; from pathlib import Path; from tokka.request_log.log import Writer\n"
        "w = Writer(Path(sys.argv[1]), sys.argv[2])\n"
        "for n in range(10**6):\n"
        "    name = f'{sys.argv[2]}-{n}'\n"
        "    w.append([{'kind': 'prediction', 'prediction_id': name, 'time': float(n)}]); print(name, flush=True)\n"
    )
    seal_many = (
        "import sys; from pathlib import Path; from tokka.request_log import parquet\n"
        "while True: parquet.seal_all(Path(sys.argv[1]), 1e12); print('sealed', flush=True)\n"
    )
    acknowledged = []
    for turn in range(3):
        children = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"t{turn}"], stdout=subprocess.PIPE)
            for code in (write_many, seal_many)
        ]
        lines = [children[0].stdout.readline() for _ in range(300)]
        children[1].stdout.readline()
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
        lines += children[0].stdout.read().split(b"\n")[:-1]
        acknowledged += [line.decode().strip() for line in lines]
        for child in children:
            child.wait()
            child.stdout.close()
    parquet.seal_all(tmp_path, 1e12)
    found = names(tmp_path)
    print(f"\n3 kills of writer and sealer: {len(acknowledged)} acknowledged, {len(found)} read")
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    # The last one that each writer wrote may be there without having been acknowledged.
    assert len(found) - len(acknowledged) <= 3


def test_there_is_something_to_do_only_for_segments_that_are_left_or_old(tmp_path):
    now = time.time()
    assert not parquet.is_due(tmp_path / "none", now, 30.0)
    writer = Writer(tmp_path, "worker")
    writer.append([prediction("a", now)])
    name = segments.names(tmp_path)[0]
    late = now + parquet.IDLE_SECONDS + 5
    assert not parquet.is_due(tmp_path, late, 30.0), "a process still writes it"
    writer.close()
    assert not parquet.is_due(tmp_path, now, 30.0), "a process wrote it a moment ago"
    assert parquet.is_due(tmp_path, late, 30.0)
    assert parquet.seal_all(tmp_path, late) == 1
    assert not parquet.is_due(tmp_path, late, 30.0)
    assert not parquet.is_due(tmp_path, now + 29 * DAY, 30.0) and parquet.is_due(tmp_path, now + 31 * DAY + 5, 30.0)
    os.utime(segments.sealed_path(tmp_path, name), (now + 9 * DAY,) * 2)
    assert parquet.is_due(tmp_path, now + 31 * DAY + 5, 30.0), "sealed late, it is old by its day"
    segments.sealed_path(tmp_path, name).rename(tmp_path / f"{name}.v9.parquet")
    assert not parquet.is_due(tmp_path, now + 99 * DAY, 30.0), "of another version: never deleted"


def spans(rows):
    ends = [sum(len(frame(row)) for row in rows[: number + 1]) for number in range(len(rows))]
    return [(end - len(frame(row)), end) for row, end in zip(rows, ends, strict=True)]


def test_the_oldest_beyond_a_size_are_deleted_and_never_what_is_not_sealed(tmp_path):
    for number in range(3):
        (tmp_path / f"20300101-x-{number}.v1.jsonl").write_bytes(frame(prediction(str(number), float(9 - number))))
        assert parquet.seal(tmp_path, f"20300101-x-{number}")
    (tmp_path / "20300101-open-1.v1.jsonl").write_bytes(frame(prediction("open", 1.0)) * 100)
    most = sum(path.stat().st_size for path in tmp_path.glob("*.parquet")) - 1
    assert parquet.is_due(tmp_path, 0.0, 1e9, most) and not parquet.is_due(tmp_path, 0.0, 1e9, most + 1)
    assert parquet.delete_beyond(tmp_path, most) == 1
    assert set(names(tmp_path)) == {"0", "1", "open"}
    assert parquet.delete_beyond(tmp_path, 0) == 2
    assert set(names(tmp_path)) == {"open"}
