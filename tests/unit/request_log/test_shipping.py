"""A pod's log on its way to the archive: nothing is lost or doubled by a kill anywhere, and room is bounded."""

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from tests.fixtures.waiting import PATIENCE_S
from tests.unit.request_log.test_parquet import prediction
from tokka import objects
from tokka.errors import TokkaError
from tokka.request_log import log, segments, shipping
from tokka.request_log.log import PodWriter
from tokka.request_log.shipping import Shipping, ShippingMetrics


@pytest.fixture
def address(bucket):
    return f"{bucket}/requests/desk/3"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "requests"


def records(address, tmp_path):
    """What the archive has, as a reader sees it."""
    place = tmp_path / "read"
    for name in objects.names(address):
        objects.read(f"{address}/{name}", place / name, 1 << 24)
    return sorted(record["prediction_id"] for record in log.read(place))


def test_an_open_segment_is_copied_as_it_grows_and_stays_until_it_has_ended(folder, address, tmp_path):
    writer, ships = PodWriter(folder, "pod"), Shipping(folder, address)
    writer.append([prediction("a", 1.0)])
    ships.turn()
    assert records(address, tmp_path) == ["a"] and len(segments.names(folder)) == 1
    ships.turn()
    assert ships.shipped.copies == 1, "it has not grown"
    writer.append([prediction("b", 2.0)])
    ships.turn()
    writer.close()
    ships.turn()
    assert records(address, tmp_path) == ["a", "b"] and segments.names(folder) == []
    assert len(objects.names(address)) == 1, "under one name"


def test_segments_end_by_age_and_by_size_and_never_have_a_name_twice(folder, address, tmp_path):
    writer, ships = PodWriter(folder, "pod", seconds=0.0), Shipping(folder, address)
    for name in ("a", "b", "c"):
        writer.append([prediction(name, 1.0)])
        ships.turn()
    writer.close()
    large = PodWriter(folder, "pod")
    large._most = 1
    for name in ("d", "e"):
        large.append([prediction(name, 1.0)])
    large.close()
    ships.turn()
    assert records(address, tmp_path) == ["a", "b", "c", "d", "e"] and len(objects.names(address)) == 5
    assert segments.names(folder) == []


@pytest.mark.parametrize("after", [False, True])
def test_killed_around_a_copy_it_loses_nothing_and_doubles_nothing(folder, address, tmp_path, monkeypatch, after):
    writer, put = PodWriter(folder, "pod"), objects.put
    writer.append([prediction("a", 1.0)])
    writer.close()

    def killed(content, where):
        if after:
            put(content, where)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(objects, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            Shipping(folder, address).turn()
    Shipping(folder, address).turn()
    assert records(address, tmp_path) == ["a"] and segments.names(folder) == []


def test_what_a_killed_server_has_left_is_copied_with_its_torn_end(folder, address, tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from tokka.request_log.log import PodWriter\n"
        "w = PodWriter(Path(sys.argv[1]), 'pod')\n"
        "w.append([{'kind': 'prediction', 'prediction_id': 'a', 'time': 1.0}])\n"
        'os.write(w._descriptor, b\'\\n{"kind": "predic\')\n'
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    Shipping(folder, address).turn()
    assert records(address, tmp_path) == ["a"] and segments.names(folder) == []


def test_what_cannot_be_copied_waits_is_counted_and_is_bounded(folder, address, tmp_path, monkeypatch):
    def away(*_):
        raise TokkaError("S3 does not answer")

    ships = Shipping(folder, address, most=500)
    with monkeypatch.context() as patch:
        patch.setattr(objects, "put", away)
        for number in range(8):
            writer = PodWriter(folder, "pod")
            writer.append([prediction(f"{number}", 1.0)])
            writer.close()
            ships.turn()
        assert ships.shipped.failures == 8 and "does not answer" in ships.shipped.problem
        assert 0 < ships.shipped.waiting <= 500
    ships.turn()
    kept = records(address, tmp_path)
    assert kept == [f"{number}" for number in range(8)][-len(kept) :], "the newest"
    assert ships.shipped.dropped == 8 - len(kept) > 0 and ships.shipped.waiting == 0
    registry = CollectorRegistry()
    registry.register(ShippingMetrics(folder))
    assert registry.get_sample_value("tokka_request_log_failures_total") == 8
    assert registry.get_sample_value("tokka_request_log_dropped_total") == ships.shipped.dropped
    assert registry.get_sample_value("tokka_request_log_waiting_bytes") == 0
    assert Shipping(folder, address).shipped.failures == 8, "it counts on after a start"


def test_metrics_before_anything_was_reported(folder):
    assert {family.name for family in ShippingMetrics(folder).collect()} >= {"tokka_unlogged"}


def test_the_process_copies_what_is_left_when_it_is_told_to_end(folder, address, tmp_path):
    writer = PodWriter(folder, "pod")
    writer.append([prediction("a", 1.0)])
    writer.close()
    command = shipping.command(folder, address)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, records(address, tmp_path), segments.names(folder)) == (0, ["a"], []), said
