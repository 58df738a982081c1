"""One look at a real request log: what is decided, and what is written for people and for the next training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.monitoring.conftest import Traffic, feedback
from tokka import files, objects
from tokka.errors import TokkaError
from tokka.monitoring import snapshot
from tokka.monitoring.drift.policy import Attempt
from tokka.monitoring.drift.windows import Labelled
from tokka.monitoring.observe import Champion, detect_drift
from tokka.monitoring.report import Outcome
from tokka.params import parse_params
from tokka.settings import Settings

Log = Callable[[list[dict[str, Any]]], None]
PARAMS = parse_params({"monitoring": {"window_rows": 100}, "retraining": {"minimum_labels": 50}})


def look(
    settings: Settings,
    out: Path,
    cause: str = "drift",
    *,
    reference: Path | None = None,
    replayed: Path | None = None,
    version: str = "1",
    history: tuple[Attempt, ...] = (),
    now: float | None = None,
) -> Outcome:
    return detect_drift(PARAMS, settings, cause, out, Champion(version, reference, replayed), history, now)


def drifted(traffic: Traffic, number: int) -> list[dict[str, Any]]:
    rows = traffic.rows(number, unsure=0.5, new_words=0.5)
    return [*rows, *(feedback(row, "new_intent") for row in rows[::2])]


def test_without_a_champion_it_says_so_and_a_person_goes_on(settings: Settings, tmp_path: Path) -> None:
    asked = look(settings, tmp_path / "a", "person", version="")
    assert (asked["verdict"], asked["drift"], asked["snapshot"]) == ("retrain", "no_champion", "")
    alone = look(settings, tmp_path / "b", "drift", version="")
    assert alone["verdict"] == "wait"
    assert "nothing serves yet" in (tmp_path / "b" / "drift.html").read_text()
    assert files.read_json(tmp_path / "b" / "drift.json")["reasons"] == alone["reasons"]


def test_an_empty_log_is_unknown_not_clean(settings: Settings, reference: Path, tmp_path: Path, log: Log) -> None:
    assert look(settings, tmp_path / "a", reference=reference)["drift"] == "insufficient_data"
    log(Traffic(2).rows(99))
    found = look(settings, tmp_path / "b", reference=reference)
    assert (found["drift"], found["rows_waiting"], found["verdict"]) == ("insufficient_data", 99, "wait")
    assert "cannot tell, so: wait" in (tmp_path / "b" / "drift.html").read_text()


@pytest.mark.slow
def test_drift_starts_one_retraining_on_what_people_said(
    settings: Settings, reference: Path, tmp_path: Path, log: Log
) -> None:
    traffic = Traffic(2)
    log(traffic.rows(100))
    log(drifted(traffic, 250))
    found = look(settings, tmp_path, reference=reference, now=1_100_000.0)
    assert (found["verdict"], found["drift"]) == ("retrain", "drifted")
    assert [window["verdict"] for window in found["windows"]] == ["clean", "drifted", "drifted"]
    labels = pq.read_table(found["snapshot"])
    assert labels.column_names == ["text", "label", "time"]
    assert set(labels["label"].to_pylist()) == {"new_intent"}
    assert found["labelled_rows"] == labels.num_rows
    page = (tmp_path / "drift.html").read_text()
    assert "drifted, so: retrain" in page
    assert "Compared with 600 rows: rows of data/test.csv." in page
    assert page.count("<!DOCTYPE html>") == 1
    assert 'src="http' not in page
    history = (Attempt(1_050_000.0, "drift", found["trigger_key"], "held"),)
    again = look(settings, tmp_path, reference=reference, now=1_900_000.0, history=history)
    assert again["trigger_key"] == found["trigger_key"]
    assert again["verdict"] == "wait"
    assert again["labelled_rows"] == 0


def test_a_persons_run_does_not_change_with_the_traffic(
    settings: Settings, tmp_path: Path, log: Log, reference: Path
) -> None:
    log(drifted(Traffic(2), 60))
    found = look(settings, tmp_path, "person", reference=reference)
    assert (found["verdict"], found["snapshot"]) == ("retrain", "")


def test_a_rollouts_own_replay_is_neither_traffic_nor_news(
    settings: Settings, reference: Path, tmp_path: Path, log: Log
) -> None:
    rows = [row | {"replayed": True} for row in Traffic(2).rows(120)]
    log([*rows, *(feedback(row, "a") for row in rows)])
    pq.write_table(pa.table({"text": [row["text"] for row in rows]}), tmp_path / "replay.parquet")
    found = look(settings, tmp_path, reference=reference, replayed=tmp_path / "replay.parquet")
    assert (found["rows_waiting"], found["labelled_rows"], found["windows"]) == (0, 0, [])


def test_damaged_lines_are_counted(settings: Settings, reference: Path, tmp_path: Path, log: Log) -> None:
    log(Traffic(2).rows(3))
    with (settings.home / "requests" / "19700112-test-1.v1.jsonl").open("a") as file:
        file.write('{"kind": "predic')
    assert "1 lines of the request log could not be read" in look(settings, tmp_path, reference=reference)["reasons"]


def test_a_segment_of_another_version_is_named(settings: Settings, reference: Path, tmp_path: Path, log: Log) -> None:
    log(Traffic(2).rows(3))
    (settings.home / "requests" / "19700112-test-1.v2.jsonl").write_text('{"kind": "prediction"}\n')
    reasons = look(settings, tmp_path, reference=reference)["reasons"]
    assert "not read, of an unknown version of the request log: 19700112-test-1.v2.jsonl" in reasons


def test_a_missing_reference_is_no_guess(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match="cannot be read"):
        look(settings, tmp_path, reference=tmp_path / "absent.parquet")


def test_a_snapshot_is_named_by_its_rows(tmp_path: Path) -> None:
    rows: list[Labelled] = [{"text": "a", "label": "x", "time": 1.0}, {"text": "b", "label": "y", "time": 2.0}]
    path = snapshot.write(rows, tmp_path)
    assert path is not None
    assert path.stem == snapshot.digest_of(rows)
    before = path.stat().st_mtime_ns
    assert snapshot.write(rows, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert snapshot.write([], tmp_path) is None
    assert pq.read_table(path)["time"].to_pylist()[0] == "1970-01-01T00:00:01+00:00"
    values = snapshot.write([{"text": "a", "label": 1, "time": 1.0}], tmp_path)
    assert pq.read_table(values)["label"].type == pa.float64()


def test_a_snapshot_lies_where_every_task_finds_it(bucket: str, settings: Settings, tmp_path: Path) -> None:
    rows = [Labelled(text="hello", label="a", time=1.0)]
    here = snapshot.publish(rows, settings)
    assert here == str(settings.home / "snapshots" / f"{snapshot.digest_of(rows)}.parquet")
    there = snapshot.publish(rows, settings.model_copy(update={"archive": f"{bucket}/archive"}))
    assert there == f"{bucket}/archive/snapshots/{snapshot.digest_of(rows)}.parquet"
    objects.read(there, tmp_path / "back", most=100_000)
    assert pq.read_table(tmp_path / "back").column("text").to_pylist() == ["hello"]
    assert snapshot.publish([], settings) == ""
