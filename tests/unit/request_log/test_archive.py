"""What one machine logged and sealed is read by a pod that shares nothing with it but the archive."""

import time

import pytest

from tests.unit.request_log.test_parquet import DAY, prediction, seal, write
from tokka import objects
from tokka.request_log import archive, log
from tokka.request_log.framing import frame
from tokka.settings import Settings


def machine(home, address, **more):
    environment = {"TOKKA_ROOT": str(home), "TOKKA_HOME": str(home), **more}
    return Settings.from_environment(environment | ({"TOKKA_ARCHIVE": address} if address else {}))


@pytest.fixture(params=["s3", "folder"])
def address(request, tmp_path):
    """An archive that both reach."""
    return str(tmp_path / "shared") if request.param == "folder" else request.getfixturevalue("bucket") + "/archive"


def test_a_pod_reads_what_two_machines_archived_and_copies_it_once(address, tmp_path, monkeypatch):
    now = time.time()
    for name in ("one", "two"):
        settings = machine(tmp_path / name, address)
        write(settings.home / "requests", prediction(name, now))
        seal(settings.home / "requests")
        assert archive.send(settings, host=name) == 1
        assert archive.send(settings, host=name) == 0
    pod = machine(tmp_path / "pod", address, KUBERNETES_SERVICE_HOST="10.0.0.1")
    folder = archive.requests(pod, now - DAY, "desk")
    assert sorted(record["prediction_id"] for record in log.read(folder)) == ["one", "two"]
    monkeypatch.setattr(objects, "read", lambda *_: pytest.fail("copied again"))
    assert archive.requests(pod, now - DAY, "desk") == folder
    assert log.read(archive.requests(pod, now + 2 * DAY, "desk")) == []


def test_a_machine_without_an_archive_keeps_its_log_where_it_is(tmp_path):
    settings = machine(tmp_path, "")
    write(settings.home / "requests", prediction("one", time.time()))
    seal(settings.home / "requests")
    assert archive.send(settings, host="here") == 0
    assert archive.requests(settings, 0.0, "desk") == settings.home / "requests"


def test_a_name_that_leads_out_of_the_folder_is_not_copied(bucket, tmp_path):
    (tmp_path / "sent").write_bytes(b"x")
    objects.write(tmp_path / "sent", f"{bucket}/requests/99991231/../../out{archive.SEALED}")
    pod = machine(tmp_path / "pod", bucket, KUBERNETES_SERVICE_HOST="10.0.0.1")
    objects.write(tmp_path / "sent", f"{bucket}/requests/desk/3/99991231-../../out{archive.OPEN}")
    objects.write(tmp_path / "sent", f"{bucket}/requests/desk/3/../99991231-out{archive.OPEN}")
    assert list(archive.requests(pod, 0.0, "desk").iterdir()) == []
    assert not list(tmp_path.rglob("out*"))


def pod_writes(address, endpoint, version, *ids, at=None):
    """What a predictor has copied to the archive: one open segment."""
    content = b"".join(frame(prediction(name, at or time.time()) | {"version": version}) for name in ids)
    day = time.strftime("%Y%m%d", time.gmtime(at))
    objects.put(content, f"{address}/requests/{endpoint}/{version}/{day}-pod-{ids[0]}-1{archive.OPEN}")


def ids_of(folder):
    return sorted(record["prediction_id"] for record in log.read(folder))


@pytest.fixture
def reader(address, tmp_path):
    return machine(tmp_path / "reader", address, KUBERNETES_SERVICE_HOST="10.0.0.1")


LATER = archive.IDLE_S + 60


def test_predictors_logs_are_read_while_they_grow_and_as_the_same_when_they_are_sealed(address, reader):
    now = time.time()
    pod_writes(address, "desk", "3", "a")
    pod_writes(address, "desk", "4", "x")
    pod_writes(address, "shop", "3", "other")
    tail = log.Tail(archive.requests(reader, now - DAY, "desk"))
    assert [one["prediction_id"] for one in tail.poll().records] == ["a", "x"]
    pod_writes(address, "desk", "3", "a", "b")
    assert archive.seal_idle(reader, "desk", now) == 0, "they may grow yet"
    archive.requests(reader, now - DAY, "desk")
    assert [one["prediction_id"] for one in tail.poll().records] == ["b"]
    assert archive.seal_idle(reader, "desk", now + LATER) == 2
    left = objects.names(f"{address}/requests")
    assert sum(name.endswith(archive.SEALED) for name in left) == 2 and sum("shop" in name for name in left) == 1
    folder = archive.requests(reader, now - DAY, "desk")
    assert tail.poll().records == [] and ids_of(folder) == ["a", "b", "x"]


@pytest.mark.parametrize("at", ["write", "delete"])
def test_a_reconciler_that_is_killed_while_it_seals_loses_and_doubles_nothing(address, reader, monkeypatch, at):
    now = time.time()
    pod_writes(address, "desk", "3", "a", "b")
    with monkeypatch.context() as patch:
        patch.setattr(objects, at, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            archive.seal_idle(reader, "desk", now + LATER)
    assert ids_of(archive.requests(reader, now - DAY, "desk")) == ["a", "b"]
    assert archive.seal_idle(reader, "desk", now + LATER) == 1
    assert ids_of(archive.requests(reader, now - DAY, "desk")) == ["a", "b"]
    assert all(name.endswith(archive.SEALED) for name in objects.names(f"{address}/requests"))


def test_what_a_pod_brings_late_is_sealed_anew(address, reader):
    now = time.time()
    pod_writes(address, "desk", "3", "a")
    archive.seal_idle(reader, "desk", now + LATER)
    pod_writes(address, "desk", "3", "a", "b")
    archive.seal_idle(reader, "desk", now + LATER)
    assert ids_of(archive.requests(reader, now - DAY, "desk")) == ["a", "b"]


def test_a_segment_that_is_sealed_between_the_list_and_the_look_is_listed_again(address, reader, monkeypatch):
    now, read, sealed = time.time(), objects.read, []
    pod_writes(address, "desk", "3", "a")

    def late(address, into, most):
        if not sealed:
            sealed.append(1)
            monkeypatch.setattr(objects, "read", read)
            archive.seal_idle(reader, "desk", now + LATER)
        read(address, into, most)

    monkeypatch.setattr(objects, "read", late)
    if objects.is_remote(address):
        assert ids_of(archive.requests(reader, now - DAY, "desk")) == ["a"]


def test_one_segment_that_cannot_be_read_keeps_none_of_the_others(address, reader, monkeypatch):
    now = time.time()
    pod_writes(address, "desk", "3", "a", *(f"{number}" for number in range(400)))
    pod_writes(address, "desk", "3", "b")
    monkeypatch.setattr(archive, "LONGEST", 4096)
    assert archive.seal_idle(reader, "desk", now + LATER) == 1


def test_what_is_too_old_or_too_much_of_predictors_is_deleted_and_of_nobody_else(address, reader):
    now = time.time()
    for name in ("a", "b"):
        pod_writes(address, "desk", "3", name)
    pod_writes(address, "shop", "3", "other")
    assert archive.delete_old(reader, "desk", now + DAY, 1e9) == 0, "nothing is sealed yet"
    archive.seal_idle(reader, "desk", now + LATER)
    assert archive.delete_old(reader, "desk", now - DAY, 1e9) == 0
    size = max(one.size for one in objects.listing(f"{address}/requests/desk").values())
    assert archive.delete_old(reader, "desk", now - DAY, size) == 1
    assert archive.delete_old(reader, "desk", now + DAY, 1e9) == 1
    assert [name for name in objects.names(f"{address}/requests") if "shop" not in name] == []
