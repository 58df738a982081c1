"""What the champion's evaluation left is read, or it is said which file cannot be."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokka.errors import TokkaError
from tokka.monitoring.reference import read_reference


@pytest.mark.parametrize("content", [b"", b"PAR1 no"])
def test_a_reference_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "reference.parquet"
    path.write_bytes(content)
    with pytest.raises(TokkaError, match=r"reference\.parquet"):
        read_reference(path)


def test_a_table_without_predictions_is_no_reference(tmp_path: Path) -> None:
    path = tmp_path / "reference.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(TokkaError, match="holds no predictions"):
        read_reference(path)


def test_a_regression_is_compared_by_its_values_evenly_spread(tmp_path: Path) -> None:
    path = tmp_path / "reference.parquet"
    numbers = [float(number) for number in range(100)]
    pq.write_table(pa.table({"prediction": numbers, "length": numbers, "unknown": [0.0] * 100}), path)
    found = read_reference(path, 3)
    assert found.origin.startswith("validation rows")
    assert found.numbers["value"].tolist() == [0.0, 49.0, 99.0]
    assert (found.rows, found.classes, sorted(found.numbers)) == (3, (), ["length", "unknown", "value"])
