"""Damage costs what it hits and is counted; sealing and deleting lose and double nothing, whenever they are killed."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.waiting import wait_for
from tokka.deployment.record.record import Record
from tokka.deployment.record.retrainings import Attempts
from tokka.deployment.record.state import Revision, State
from tokka.monitoring.drift.policy import Attempt
from tokka.monitoring.drift.windows import predictions
from tokka.params import parse_params
from tokka.request_log import parquet, segments
from tokka.request_log.framing import frame, unframe
from tokka.request_log.group_sync import GroupSync
from tokka.request_log.log import Tail, Writer, read, scan
from tokka.settings import Settings
from tokka.stack.archive_log import oldest_deletable, tidy

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


def test_a_record_without_its_checksum_is_none():
    assert unframe(json.dumps(prediction("a")).encode()) is None
    assert unframe(frame(prediction("a")).strip(b"\n")) == prediction("a")


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


@pytest.mark.parametrize(
    ("phase", "outcome", "age", "goes"),
    [
        ("idle", None, 0.0, True),
        ("idle", "promoted", 0.0, True),
        ("idle", "running", 60.0, False),
        ("idle", "running", 8 * DAY, True),
        ("watch", None, 0.0, False),
    ],
)
def test_nothing_is_deleted_while_a_rollout_or_a_retraining_needs_it(phase, outcome, age, goes):
    now = 100 * DAY
    attempts = [Attempt(now - age, "drift", "key", outcome)] if outcome else []
    found = oldest_deletable(State(endpoint="a", phase=phase), attempts, days=30.0, now=now)
    assert found == (70 * DAY if goes else None)


def test_what_is_too_old_is_deleted_unless_it_is_needed(tmp_path):
    where = Settings.from_environment({"TOKKA_HOME": str(tmp_path), "TOKKA_ROOT": str(tmp_path)})
    params = parse_params({"monitoring": {"retention_days": 30.0}, "registry": {"model": "helpdesk"}})
    now = time.time() + DAY
    for source, age in (("old", 40), ("young", 20)):
        writer = Writer(where.home / "requests", source)
        writer.append([prediction(source, now - age * DAY)])
        writer.close()
    Attempts(where.record_url).begin("helpdesk", "drift", "key")
    assert tidy(params, where, now) == (2, 0)
    Attempts(where.record_url).finish("helpdesk", "promoted")
    record = Record(where.record_url)
    state = record.compare_and_set(record.read("helpdesk"), champion=Revision(version="1", digest="a"), phase="watch")
    assert tidy(params, where, now) == (0, 0)
    record.compare_and_set(state, phase="idle")
    assert tidy(params, where, now) == (0, 1)
    assert names(where.home / "requests") == ["young"]


def spans(rows):
    ends = [sum(len(frame(row)) for row in rows[: number + 1]) for number in range(len(rows))]
    return [(end - len(frame(row)), end) for row, end in zip(rows, ends, strict=True)]
