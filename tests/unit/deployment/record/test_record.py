"""The deployment record: no lost update, no half-written change, nobody without a champion."""

import json
import multiprocessing
import random
import sqlite3
import time

import pytest
from pydantic import ValidationError

from tokka.deployment.record.record import Record, Superseded
from tokka.deployment.record.state import Revision, State
from tokka.errors import TokkaError, UsageError

RACERS, ROUNDS = 8, 50
ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)


@pytest.fixture
def record(record_url):
    return Record(record_url)


def race(url: str, rounds: int, start) -> None:
    """Open the record at the same moment as the others, and have some changes accepted."""
    start.wait()
    record = Record(url)
    accepted = 0
    while accepted < rounds:
        state = record.read("desk")
        try:
            record.compare_and_set(state, reason=str(int(state.reason or 0) + 1))
            accepted += 1
        except Superseded:
            # Losers who wait a little leave the two processors to the winner.
            time.sleep(random.random() / 100)


def test_racers_lose_no_update_and_create_the_tables_once(record_url):
    url, context = record_url, multiprocessing.get_context("spawn")
    # A server has a connection to make for each look.
    rounds = ROUNDS if url.startswith("sqlite") else ROUNDS // 5
    start = context.Barrier(RACERS)
    racers = [context.Process(target=race, args=(url, rounds, start)) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    record = Record(url)
    assert [racer.exitcode for racer in racers] == [0] * RACERS
    assert record.read("desk").reason == str(RACERS * rounds)
    assert record.read("desk").generation == len(record.history("desk", 1000)) == RACERS * rounds
    assert [entry["generation"] for entry in record.history("desk", 3)] == [RACERS * rounds - back for back in range(3)]


def test_an_unknown_endpoint_has_nobody(record):
    assert record.read("desk") == State(endpoint="desk")
    assert record.history("desk") == []


def test_a_stale_state_is_superseded_and_changes_nothing(record):
    old = record.read("desk")
    record.compare_and_set(old, champion=ONE)
    for stale in (old, old):
        with pytest.raises(Superseded, match="generation 0"):
            record.compare_and_set(stale, champion=TWO, decision={"verdict": "promoted"})
    assert record.read("desk").champion == ONE
    assert record.decisions("desk") == []
    assert len(record.history("desk")) == 1


def test_endpoints_do_not_touch_each_other(record):
    record.compare_and_set(record.read("desk"), champion=ONE)
    record.compare_and_set(record.read("bank"), champion=TWO)
    assert record.read("desk").champion == ONE


def test_a_champion_is_never_taken_away(record):
    state = record.compare_and_set(record.read("desk"), champion=ONE)
    with pytest.raises(ValueError, match="without a champion"):
        record.compare_and_set(state, champion=None)
    assert record.read("desk") == state


@pytest.mark.parametrize(
    "changes",
    [
        {"share": 0.5},
        {"share": 1.5, "champion": ONE, "challenger": TWO, "phase": "step"},
        {"champion": ONE, "challenger": ONE, "phase": "shadow"},
        {"challenger": TWO},
        {"champion": ONE, "phase": "shadow"},
        {"generation": 7},
        {"colour": "red"},
    ],
)
def test_a_change_that_makes_no_sense_is_refused(record, changes):
    with pytest.raises((ValueError, ValidationError)):
        record.compare_and_set(record.read("desk"), **changes)
    assert record.history("desk") == []


def test_a_decision_is_written_with_the_change_it_led_to(record):
    state = record.compare_and_set(
        record.read("desk"), champion=ONE, rollout="r", decision={"version": "1", "verdict": "promoted"}
    )
    record.add_decision(state, {"version": "1", "verdict": "hold", "values": {"errors": 0.5}})
    newest, first = record.decisions("desk", rollout="r")
    assert (first["verdict"], first["generation"], first["time"]) == ("promoted", 1, state.updated)
    assert newest["values"] == {"errors": 0.5}
    assert record.decisions("desk", version="2") == record.decisions("desk", rollout="other") == []


def test_a_decision_that_is_no_json_leaves_the_record_alone(record):
    with pytest.raises(ValueError, match="JSON"):
        record.compare_and_set(record.read("desk"), champion=ONE, decision={"value": float("nan")})
    assert record.read("desk").generation == 0


def test_the_file_is_in_write_ahead_mode_and_its_owners_alone(tmp_path):
    record = Record(f"sqlite:///{tmp_path}/record.db")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    record.compare_and_set(record.read("desk"), champion=ONE)
    with sqlite3.connect(tmp_path / "record.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert json.loads(other.execute("SELECT state FROM endpoints").fetchone()[0])["champion"]["version"] == "1"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "nonsense://x", "no url"])
def test_a_url_without_a_database_is_wrong_use(url):
    with pytest.raises(UsageError, match="cannot be used"):
        Record(url)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "record.db").write_bytes(b"not a database, but longer than a header" * 100)
    with pytest.raises(TokkaError, match="does not answer"):
        Record(f"sqlite:///{tmp_path}/record.db")
