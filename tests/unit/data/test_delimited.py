"""Dialects of delimited files, as programs write them."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.data.corpus import Write, csv_of
from tokka.data import reading
from tokka.errors import TokkaError, UsageError
from tokka.sections import Data, Task


def read(path: Path, **task: str) -> reading.Reading:
    return reading.read(path, Task.model_validate(task), Data())


def test_quotes_escaped_by_a_backslash(write: Write) -> None:
    """As Spark and MySQL write them."""
    found = read(
        write("a.csv", 'text,label\nplain C:\\new,x\n"she said \\"hi, you\\" and left",y\n"\\"all\\"",x\n"a \\\\",y\n')
    )
    assert [row.text for row in found.rows] == ["plain C:\\new", 'she said "hi, you" and left', '"all"', "a \\"]


def test_a_backslash_is_a_character_where_quotes_are_doubled(write: Write) -> None:
    found = read(write("a.csv", 'text,label\n"C:\\new, ""x""",x\n"a\\b, c",y\n'))
    assert [row.text for row in found.rows] == ['C:\\new, "x"', "a\\b, c"]


def test_tabs_with_quotes_that_quote_nothing(write: Write) -> None:
    found = read(write("a.tsv", 'text\tlabel\n"great" she said\tx\nan 8" pipe\ty\n"open\tx\n'))
    assert [row.text for row in found.rows] == ['"great" she said', 'an 8" pipe', '"open']


def test_tabs_with_quotes_that_quote(write: Write) -> None:
    found = read(write("a.tsv", 'text\tlabel\n"a ""b""\tc"\tx\n"two\nlines"\ty\n'))
    assert [row.text for row in found.rows] == ['a "b"\tc', "two\nlines"]


@pytest.mark.parametrize("lines", [260, 5000])
def test_a_cell_of_many_lines(write: Write, lines: int) -> None:
    mail = "\n".join(f'so ""{number}""' for number in range(lines))
    content = csv_of(300) + f'"{mail}",pay\n' + "after,ship\n"
    found = reading.read(write("a.csv", content), Task(), Data(max_cell_characters=10**6))
    assert not found.quarantined
    assert found.rows[-2].text == mail.replace('""', '"')
    assert len(found.rows) == 302


def test_without_a_header_the_columns_are_numbers(write: Write) -> None:
    path = write("a.csv", csv_of(20).partition("\n")[2])
    assert len(read(path, text="0", target="1").rows) == 20
    with pytest.raises(UsageError) as error:
        read(path)
    assert "--set task.text=0" in error.value.hint


def test_a_header_of_numbers_is_a_header(write: Write) -> None:
    assert len(read(write("a.csv", csv_of(20).replace("text,label", "0,1")), text="0", target="1").rows) == 20


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n'])
def test_the_line_that_excel_writes_first(write: Write, first: str) -> None:
    assert [row.text for row in read(write("a.csv", f"{first}text;label\na;x\n")).rows] == ["a"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_in_words(write: Write, encoding: str) -> None:
    with pytest.raises(TokkaError, match=r"UTF-16|NUL byte"):
        read(write("a.csv", csv_of(5).encode(encoding)))


def test_a_column_is_found_in_either_unicode_form(write: Write) -> None:
    assert read(write("a.csv", "text,e\u0301tat\na,x\n"), target="\u00e9tat").rows[0].target == "x"
    assert read(write("a.jsonl", '{"text": "a", "e\u0301tat": "x"}\n'), target="\u00e9tat").rows[0].target == "x"


cells = st.text(alphabet='ab ,;\t"\\\n\ré', min_size=1, max_size=12).filter(str.strip)


@given(st.lists(cells, min_size=1, max_size=20), st.sampled_from(",;\t"))
@example(["\t;\n"], "\t")
@example(['\n\\",'], ",")
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], mark: str
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=mark, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("text", "label"), *((text, f"label-{number}") for number, text in enumerate(texts))])
    path = tmp_path_factory.mktemp("written") / "a.csv"
    path.write_bytes(file.getvalue().encode())
    assert [row.text for row in read(path).rows] == texts
