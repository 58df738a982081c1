"""Cells of every type that Parquet has: a value is the same value whatever holds it."""

import datetime
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokka.data import reading
from tokka.sections import Data, Task


def read(path: Path, column: pa.Array, **task: Any) -> reading.Reading:
    cells = {"text": pa.array([f"text {n}" for n in range(len(column))]), "label": column}
    if "time" in task or "group" in task:
        cells |= {"label": pa.array(["x"] * len(column)), "own": column}
    pq.write_table(pa.table(cells), path / "a.parquet")
    return reading.read(path / "a.parquet", Task(**task), Data())


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        (pa.array([1.0, 2.5, None], pa.float16()), ["1", "2.5"]),
        (pa.array([0.1, 2.0], pa.float32()), ["0.1", "2"]),
        (pa.array([0.1, 2.0, float("nan")]), ["0.1", "2"]),
        (pa.array([Decimal("1.50"), Decimal("2.00")], pa.decimal128(10, 2)), ["1.50", "2"]),
        (pa.array([Decimal("100")], pa.decimal256(50, 0)), ["100"]),
        (pa.array([True, False, None]), ["true", "false"]),
        (pa.array([b"caf\xc3\xa9", b"\xff"]), ["café"]),
        (pa.array([b"x"], pa.large_binary()), ["x"]),
        (pa.array(["x", None, "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array([1.0, 2.0]).dictionary_encode(), ["1", "2"]),
        (pa.array([2**63], pa.uint64()), ["9223372036854775808"]),
        (pa.array(["x"], pa.string_view()), ["x"]),
        (pa.array([datetime.date(2026, 1, 1)]), ["2026-01-01"]),
        (pa.array([None, None], pa.null()), []),
        (pa.array([["x"]]), []),
        (pa.array([{"a": 1}]), []),
        (pa.array([1], pa.duration("s")), []),
    ],
)
def test_labels(tmp_path: Path, column: pa.Array, labels: list[str]) -> None:
    found = read(tmp_path, column)
    assert [row.target for row in found.rows] == labels
    assert found.read == len(column)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64(), pa.decimal128(10, 3)])
def test_numbers_to_predict(tmp_path: Path, kind: pa.DataType) -> None:
    found = read(
        tmp_path,
        pa.array([Decimal("0.125"), Decimal("2")] if pa.types.is_decimal(kind) else [0.125, 2.0], kind),
        type="regression",
    )
    assert [row.target for row in found.rows] == [0.125, 2.0]


def test_a_number_of_few_bits_is_what_csv_would_hold(tmp_path: Path) -> None:
    found = read(tmp_path, pa.array([0.1], pa.float32()), type="regression")
    assert [row.target for row in found.rows] == [0.1]


@pytest.mark.parametrize(
    ("zone", "unit", "time"),
    [
        (None, "ns", "2026-01-01T00:00:00.123456"),
        ("UTC", "us", "2026-01-01T00:00:00.123456+00:00"),
        ("Europe/Berlin", "ns", "2026-01-01T00:00:00.123456+00:00"),
        ("-08:00", "ns", "2026-01-01T00:00:00.123456+00:00"),
    ],
)
def test_times_with_and_without_a_zone(tmp_path: Path, zone: str | None, unit: str, time: str) -> None:
    column = (
        pa.array([1767225600123456, None], pa.timestamp("us")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
    )
    assert [row.time for row in read(tmp_path, column, time="own").rows] == [time, ""]


def test_groups_are_one_whether_they_came_as_floats_or_not(tmp_path: Path) -> None:
    found = read(tmp_path, pa.array([12.0, 13.0, None]), group="own")
    assert [row.group for row in found.rows] == ["12", "13"]
    (tmp_path / "b.csv").write_text("text,label,own\na,x,12.0\nb,x,12\n")
    assert {row.group for row in reading.read(tmp_path / "b.csv", Task(group="own"), Data()).rows} == {"12"}
    identity = uuid.UUID(int=7)
    assert read(tmp_path, pa.array([identity.bytes], pa.uuid()), group="own").rows[0].group == str(identity)


def test_a_column_is_found_in_either_unicode_form_and_with_a_dot(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a.text": ["one"], "e\u0301tat": ["x"]}), tmp_path / "a.parquet")
    found = reading.read(tmp_path / "a.parquet", Task(text="a.text", target="\u00e9tat"), Data())
    assert [(row.text, row.target) for row in found.rows] == [("one", "x")]
