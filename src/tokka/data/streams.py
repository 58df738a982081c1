"""Text files as bounded physical lines: plain or gzip, UTF-8 only, never more in memory than one line."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from tokka import files
from tokka.errors import TokkaError
from tokka.sections import Data

BLOCK = 1 << 20
LONGEST_LINE = 4_000_000
# Text compresses 3- to 30-fold; what expands more, beyond the first ten megabytes, was made to fill a memory.
HIGHEST_RATIO = 200
RATIO_FROM = 10_000_000
FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PAR1": "a Parquet file",
    b"BZh": "a bzip2 file",
    b"\xfd7zX": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstandard file",
    b"%PDF": "a PDF file",
    b"SQLi": "an SQLite file",
}


def check_size(path: Path, limits: Data) -> None:
    """Refuse (TokkaError) what is missing, empty, broken gzip, or larger than `data.max_bytes`, decompressed too."""
    files.check_readable(path, "name one CSV, TSV, JSON-lines or Parquet file with --data or data.source")
    size = path.stat().st_size
    if size == 0:
        raise TokkaError(f"{path} is empty (0 bytes)", "a header line and rows are needed")
    _bound(path, size, limits)
    if _is_gzip(path):
        _check_gzip(path, size, limits)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def lines(path: Path, limits: Data) -> Iterator[tuple[int, str]]:
    """Physical lines with their numbers from 1, decoded, with line ends; a byte order mark is taken off.

    Raises:
        TokkaError: with file and line: not UTF-8, a NUL byte, a line of over four million bytes, old Mac line ends.
    """
    with gzip.open(path, "rb") if _is_gzip(path) else path.open("rb") as file:
        start = file.read(4)
        if kind := next((kind for magic, kind in FOREIGN.items() if start.startswith(magic)), None):
            reason = f"{path}, line 1: this is {kind}, not UTF-8 text"
            raise TokkaError(reason, "save it as UTF-8 CSV and name that file")
        file.seek(0)
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            if len(raw) > LONGEST_LINE:
                raise TokkaError(
                    f"{path}, line {number}: the line is longer than {LONGEST_LINE:,} bytes",
                    "one row per line is expected; is this the right file?",
                )
            yield number, _decode(path, number, raw)


def _check_gzip(path: Path, size: int, limits: Data) -> None:
    expanded = 0
    try:
        with gzip.open(path, "rb") as file:
            while block := file.read(BLOCK):
                expanded += len(block)
                _bound(path, expanded, limits, " decompressed")
                if expanded > RATIO_FROM and expanded > HIGHEST_RATIO * size:
                    raise TokkaError(
                        f"{path} expands more than {HIGHEST_RATIO}-fold ({size:,} bytes to over {expanded:,})",
                        "no table does that: unpack and look at it before you use it",
                    )
    except (EOFError, OSError, zlib.error) as error:
        raise TokkaError(f"{path} is a broken gzip file: {error}", "it was cut off or altered: copy it again") from None


def _bound(path: Path, size: int, limits: Data, word: str = "") -> None:
    if size > limits.max_bytes:
        raise TokkaError(
            f"{path} has more than data.max_bytes = {limits.max_bytes:,} bytes{word}",
            "use a smaller file, or raise data.max_bytes if the machine has the memory",
        )


def _decode(path: Path, number: int, raw: bytes) -> str:
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
        if b"\r" in raw.rstrip(b"\r\n"):
            raise TokkaError(f"{path}, line 1: lines end with CR alone (old Mac)", "convert the line ends to LF")
    if b"\x00" in raw:
        raise TokkaError(f"{path}, line {number}: a NUL byte: this is no text file", "save it as UTF-8 CSV")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokkaError(
            f"{path}, line {number}: byte 0x{raw[error.start]:02X} at position {error.start + 1} is not UTF-8",
            "convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE (with the encoding that it really has)",
        ) from None
