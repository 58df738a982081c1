"""What a cell of the column task.time may be."""

from pathlib import Path

import pytest

from tests.unit.data.corpus import Write
from tokka.data import reading
from tokka.sections import Data, Task


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


@pytest.mark.parametrize("cell", ["", "  ", "NaT", "nan", "null", "None"])
def test_a_row_without_a_time_stays(write: Write, cell: str) -> None:
    found = read(write("a.csv", f"text,label,when\na,x,{cell}\nb,y,2026-03-01\n"), Task(time="when"))
    assert [row.time for row in found.rows] == ["", "2026-03-01"]


def test_times_with_a_zone_compare_as_instants(write: Write) -> None:
    cells = [
        "2026-05-01T08:00:00+09:00",
        "2026-05-01T01:30:00+02:00",
        "2026-04-30T23:45:00Z",
        "2026-05-01 00:00:00.5+0000",
    ]
    rows = "".join(f"a{number},x,{cell}\n" for number, cell in enumerate(cells))
    found = read(write("a.csv", f"text,label,when\n{rows}"), Task(time="when"))
    assert [row.time for row in found.rows] == sorted(row.time for row in found.rows)
    assert found.rows[0].time == "2026-04-30T23:00:00+00:00"


def test_other_dates_say_how_to_leave_the_column_out(write: Write) -> None:
    found = read(write("a.csv", "text,label,when\na,x,05/01/2026 10:00\n"), Task(time="when"))
    assert "--set task.time=null" in found.quarantined[0]["reason"]
