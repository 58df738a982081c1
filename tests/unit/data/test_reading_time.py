"""What a cell of the column task.time may be."""

from pathlib import Path

import pytest

from tests.unit.data.corpus import Write
from tokka.data import reading
from tokka.params import Data, Task


def read(path: Path, task: Task) -> reading.Reading:
    return reading.read(path, task, Data())


def test_time_must_be_iso(write: Write) -> None:
    task = Task(time="when")
    found = read(write("a.csv", "text,label,when\na,x,2026-03-01\nb,x,2026-03-01 10:00:00\nc,x,3rd of May\n"), task)
    assert [row.time for row in found.rows] == ["2026-03-01", "2026-03-01T10:00:00"]
    assert "ISO 8601" in found.quarantined[0]["reason"]


def test_time_may_be_seconds(write: Write) -> None:
    found = read(write("a.jsonl", '{"text": "a", "label": "x", "when": 1767225600.5}\n'), Task(time="when"))
    assert found.rows[0].time == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("cell", ["1767225600", " 1767225600.5 "])
def test_time_may_be_seconds_in_a_file_of_words(write: Write, cell: str) -> None:
    found = read(write("a.csv", f"text,label,when\na,x,{cell}\n"), Task(time="when"))
    assert [row.time for row in found.rows] == ["2026-01-01T00:00:00+00:00"]


@pytest.mark.parametrize("cell", ["1767225600000", "17672256", "-1767225600", "1_767_225_600", "17672256001"])
def test_other_numbers_are_no_time(write: Write, cell: str) -> None:
    found = read(write("a.csv", f"text,label,when\na,x,{cell}\nb,y,2026-03-01\n"), Task(time="when"))
    assert [row.time for row in found.rows] == ["2026-03-01"]
    assert "ISO 8601" in found.quarantined[0]["reason"]
