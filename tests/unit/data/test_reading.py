import gzip
import json
import math
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data.corpus import CLASSES, NUMBERS, Write, csv_of
from tokka.data import reading
from tokka.errors import Refused, TokkaError, UsageError
from tokka.params import parse_params
from tokka.sections import Data, Task
from tokka.settings import Settings

LIMITS = Data()


def read(path: Path, task: Task = CLASSES, **limits: object) -> reading.Reading:
    return reading.read(path, task, Data.model_validate(limits))


def only_reason(path: Path, task: Task = CLASSES) -> str:
    found = read(path, task)
    assert len(found.quarantined) == 1
    return str(found.quarantined[0]["reason"])


def one_line(error: pytest.ExceptionInfo[TokkaError]) -> str:
    assert "\n" not in error.value.message
    assert error.value.hint
    return error.value.message


def test_plain_rows_keep_their_line_numbers(write: Write) -> None:
    found = read(write("a.csv", 'text,label\nhello,x\n\n"a, b",y\n'))
    assert [row.text for row in found.rows] == ["hello", "a, b"]
    assert found.lines == [2, 4]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found_in_the_header(write: Write, delimiter: str) -> None:
    found = read(
        write(
            "a.csv", f"id{delimiter}text{delimiter}label\n1{delimiter}a, b; c{delimiter}x\n".replace("a, b; c", "abc")
        )
    )
    assert found.rows[0].text == "abc"


def test_byte_order_mark_and_windows_line_ends(write: Write) -> None:
    found = read(write("a.csv", b"\xef\xbb\xbftext,label\r\nhello,x\r\n"))
    assert (found.rows[0].text, found.rows[0].target) == ("hello", "x")


def test_na_is_a_word(write: Write) -> None:
    assert [row.text for row in read(write("a.csv", "text,label\nNA,x\nnull,y\n")).rows] == ["NA", "null"]


def test_quoted_cell_spans_lines(write: Write) -> None:
    found = read(write("a.csv", 'text,label\n"dear team,\nit is broken, again\nBob",x\nnext,y\n'))
    assert [row.text for row in found.rows] == ["dear team,\nit is broken, again\nBob", "next"]


def test_quoted_cell_spans_lines_when_it_is_the_last_column(write: Write) -> None:
    assert len(read(write("a.csv", 'label,text\nx,"dear team\nit is broken"\ny,next\n')).rows) == 2


def test_two_stray_quotes_cost_two_rows_and_not_those_between(write: Write) -> None:
    lines = csv_of(1000).splitlines()
    lines[10], lines[900] = f'"{lines[10]}', f'"{lines[900]}'
    found = read(write("a.csv", "\n".join(lines) + "\n"))
    assert len(found.rows) == 998
    assert [entry["line"] for entry in found.quarantined] == [11, 901]
    assert all("stray quote" in entry["reason"] for entry in found.quarantined)


def test_stray_quote_that_would_close_on_a_later_row(write: Write) -> None:
    lines = csv_of(300).splitlines()
    lines[10] = f'"{lines[10]}'
    lines[200] = lines[200].replace(",", '",')
    assert len(read(write("a.csv", "\n".join(lines) + "\n")).rows) >= 298


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("text,label\nhello,x,y\n", "3 cells, but the header has 2"),
        ("text,label\nhello\nbye,x\n", "1 cells, but the header has 2"),
        ("text,label\n  ,x\n", "empty 'text'"),
        ("text,label\n\u200b,x\n", "empty 'text'"),
        ("text,label\nhello,\n", "empty 'label'"),
        ("text,label\nhello," + "y" * 300 + "\n", "no label"),
        ('text,label\n"hel"lo,x\nbye,x\n', "stray quote"),
        ('text,label\n"hello,x\n', "stray quote"),
        ("text,label\nhello,x\nbye,x\ncut o", "the file ends in the middle of a row"),
        ("text,label\nhello,xylophone\nbye,xyl", "the file ends without a line end"),
        ("text,label\n" + "y" * 20_001 + ",x\n", "over data.max_cell_characters"),
    ],
)
def test_bad_rows_are_quarantined_with_a_reason(write: Write, content: str, reason: str) -> None:
    assert reason in only_reason(write("a.csv", content))


@pytest.mark.parametrize("target", ["nan", "inf", "-inf", "1e999", "abc", "1_000", "", "NaN", "1,5"])
def test_targets_that_are_no_finite_number_are_quarantined(write: Write, target: str) -> None:
    cell = f'"{target}"' if "," in target else target
    assert "score" in only_reason(write("a.csv", f"text,score\nhello,{cell}\nbye,1.5\n"), NUMBERS)


@pytest.mark.parametrize("target", [math.nan, math.inf, None])
def test_parquet_targets_that_are_no_finite_number(tmp_path: Path, target: float | None) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "score": [target, 2.0]}), tmp_path / "a.parquet")
    assert "score" in only_reason(tmp_path / "a.parquet", NUMBERS)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n", "header is blank"),
        ("a.csv", b"text,label\n", "a header and no rows"),
        ("a.csv", b"text,text,label\na,b,c\n", "'text' stands more than once"),
        ("a.csv", "text,label\ncaf\u00e9,x\n".encode("latin-1"), "line 2: byte 0xE9 at position 4 is not UTF-8"),
        ("a.csv", "text,label\na,x\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"text,label\na\x00b,x\n", "NUL byte"),
        ("a.csv", b"PK\x03\x04rest", "Excel"),
        ("a.csv", b"text,label\rhello,x\r", "old Mac"),
        ("a.csv", b"text,label\n" + b"y" * 5_000_000, "longer than"),
        ("a.xlsx", b"PK\x03\x04rest", "not a format"),
        ("a", b"text,label\n", "not a format"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00broken", "broken gzip"),
        ("a.parquet", b"PAR1 nonsense", "cannot be read as Parquet"),
        ("a.json", b'[{"text": "a"}]', "JSON array"),
    ],
)
def test_bad_files_are_refused_with_file_and_reason(write: Write, name: str, content: bytes, words: str) -> None:
    with pytest.raises(TokkaError) as error:
        read(write(name, content))
    message = one_line(error)
    assert name in message
    assert words in message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match="does not exist"):
        read(tmp_path / "no.csv")


def test_missing_column_names_those_that_exist_and_the_nearest(write: Write) -> None:
    with pytest.raises(UsageError) as error:
        read(write("a.csv", "body,labels\na,x\n"), Task(text="body"))
    assert "no column 'label'" in one_line(error)
    assert "'body', 'labels'; did you mean 'labels'?" in error.value.message


def test_truncated_gzip_is_refused(write: Write) -> None:
    packed = gzip.compress(csv_of(500).encode())
    with pytest.raises(TokkaError, match="broken gzip"):
        read(write("a.csv.gz", packed[: len(packed) // 2]))


def test_gzip_reads_like_the_plain_file(write: Write) -> None:
    assert read(write("a.csv.gz", gzip.compress(csv_of(50).encode()))).rows == read(write("a.csv", csv_of(50))).rows


def test_200_megabyte_bomb_is_refused_early_and_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"text,label\n")
        for _ in range(200):
            file.write(b"aaaaaaaaa,x\n" * 87_381)
    tracemalloc.start()
    with pytest.raises(TokkaError) as error:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "expands more than 200-fold" in one_line(error) or "data.max_bytes" in error.value.message
    assert peak < 20_000_000


def test_parquet_bomb_of_one_repeated_value_is_refused(tmp_path: Path) -> None:
    word = "y" * 10_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array([word]))
    pq.write_table(pa.table({"text": column, "label": column}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 200_000
    with pytest.raises(TokkaError, match=r"unfolds to more than data\.max_bytes"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("limits", [{"max_bytes": 100}, {"max_rows": 10}])
def test_bounds_on_bytes_and_rows(write: Write, limits: dict[str, int]) -> None:
    with pytest.raises(TokkaError, match=next(iter(limits))):
        read(write("a.csv", csv_of(50)), **limits)


def test_too_many_bad_rows_are_refused(write: Write) -> None:
    found = read(write("a.csv", csv_of(20) + "one\ntwo\n"))
    with pytest.raises(Refused, match="2 of 22 rows are quarantined"):
        reading.check_quarantine(found, LIMITS)
    reading.check_quarantine(found, Data(max_quarantined_share=0.1))


def test_all_rows_bad_is_refused_whatever_the_share(write: Write) -> None:
    found = read(write("a.csv", "text,label\none\ntwo\n"))
    with pytest.raises(Refused, match="all 2 rows are quarantined"):
        reading.check_quarantine(found, Data(max_quarantined_share=1.0))


def test_quarantine_has_line_reason_and_content(write: Write) -> None:
    lines = reading.quarantine_lines(read(write("a.csv", "text,label\none\nbye,x\n")))
    (entry,) = [json.loads(line) for line in lines.splitlines()]
    assert (entry["file"], entry["line"], entry["raw"]) == ("a.csv", 2, "one\n")


def test_json_lines(write: Write) -> None:
    lines = [
        '{"text": "a", "label": 1}',
        '{"text": "b", "label": true}',
        "not json",
        '{"text": "c"}',
        '{"text": "d", "label": "x", "label": "y"}',
        "[1]",
        '{"text": 5, "label": "x"}',
        '{"text": "\\ud800", "label": "x"}',
        '{"text": "e", "label": NaN}',
        '{"text": {"a": 1}, "label": "x"}',
    ]
    found = read(write("a.jsonl", "\n".join(lines) + "\n"))
    assert [row.target for row in found.rows] == ["1", "true"]
    assert [entry["line"] for entry in found.quarantined] == list(range(3, 11))


def test_deep_json_is_one_bad_row(write: Write) -> None:
    found = read(write("a.jsonl", '{"text": "a", "label": "x"}\n' + "[" * 100_000 + "\n"))
    assert len(found.quarantined) == 1


def test_parquet_keeps_integer_labels_beside_empty_cells(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", None], "label": [1.0, 2.0, 1.0]}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [row.target for row in found.rows] == ["1", "2"]
    assert found.quarantined[0]["reason"] == "empty 'text'"


@pytest.mark.parametrize(
    ("name", "task", "rows"),
    [
        ("banking77/train.csv", Task(target="category"), 10_003),
        ("banking77/test.csv", Task(target="category"), 3_080),
        ("emobank/emobank.csv", Task(type="regression", target="V"), 10_062),
        ("ops_commits/commits.csv", Task(target="type", time="date", slices=("repo",)), 11_598),
    ],
)
def test_real_files_are_read_whole(shared: Path, name: str, task: Task, rows: int) -> None:
    found = read(shared / name, task)
    assert (len(found.rows), found.quarantined) == (rows, [])


def test_a_time_and_slices_that_a_file_lacks_are_left_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,region\nwhere is it,late,north\nit is lost,lost,south\n")
    found = reading.read(path, Task(time="time", slices=("channel", "region")), Data())
    assert [(row.time, row.slices) for row in found.rows] == [("", ("unknown", "north")), ("", ("unknown", "south"))]


def test_a_mistyped_time_or_slice_is_refused_with_the_right_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,region\nwhere is it,late,north\n")
    with pytest.raises(UsageError, match="did you mean 'region'"):
        reading.read(path, Task(slices=("regoin",)), Data())


def test_the_first_text_is_found_in_a_file_without_time_and_slices(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nwhere is it,late\n")
    tree = {"task": {"time": "time", "slices": ["channel"]}, "data": {"source": str(tmp_path / "a.csv")}}
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home")})
    assert reading.first_row(parse_params(tree), settings).text == "where is it"
