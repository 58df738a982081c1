"""The files of the request log: one per process, day and size; open while its process writes it, later sealed.

NAME.v1.jsonl is open, NAME.v1.parquet is sealed. The version stands in the name, which comes into being with the file:
no crash leaves a segment without one. A segment of another version is listed by `unknown`, and never read, sealed or
deleted. A writer holds a shared lock, so that sealing sees when there is none.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

VERSION = "1"
SEGMENT_BYTES = 32 << 20
DAY_SECONDS, GIGABYTE = 86_400.0, 1e9
_NAME = re.compile(r"(?P<name>\d{8}-.+?)(\.v(?P<version>\w+))?\.(jsonl|parquet)")


def day_of(moment: float) -> str:
    """The UTC day of a moment (seconds since 1970), as YYYYMMDD."""
    return time.strftime("%Y%m%d", time.gmtime(max(moment, 0.0)))


def open_path(folder: Path, name: str) -> Path:
    """Where the open form of a segment lies."""
    return folder / f"{name}.v{VERSION}.jsonl"


def sealed_path(folder: Path, name: str) -> Path:
    """Where the sealed form of a segment lies."""
    return folder / f"{name}.v{VERSION}.parquet"


def names(folder: Path, first_day: str = "") -> list[str]:
    """Names of the segments from a day on, in order; one that is being sealed has one name."""
    return sorted(
        {found["name"] for found in _files(folder) if found["version"] == VERSION and found["name"] >= first_day}
    )


def unknown(folder: Path) -> list[str]:
    """Names of the segments' files whose format has another version, or none."""
    return sorted(found[0] for found in _files(folder) if found["version"] != VERSION)


def open_segment(folder: Path, source: str, day: str) -> int:
    """Open this process's segment for appending, with a torn tail mended; returns the locked descriptor."""
    folder.mkdir(parents=True, exist_ok=True)
    found = (_claim(folder, f"{day}-{source}-{os.getpid()}" + (f".{number}" if number else "")) for number in count())
    return next(descriptor for descriptor in found if descriptor is not None)


def claim_all(path: Path) -> int | None:
    """An open file that no process writes, locked against writers; None while one does, or when it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    if _locks(descriptor, fcntl.LOCK_EX) and _is(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def _files(folder: Path) -> Iterator[re.Match[str]]:
    """The file names of all segments; a file that is being written begins with a dot and is none."""
    return filter(None, (_NAME.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ())))


def _claim(folder: Path, name: str) -> int | None:
    path, sealed = open_path(folder, name), sealed_path(folder, name)
    if sealed.exists():
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    # It may have been sealed between the look and the lock.
    usable = _locks(descriptor, fcntl.LOCK_SH) and _is(descriptor, path) and not sealed.exists()
    size = os.fstat(descriptor).st_size
    if not usable or size >= SEGMENT_BYTES:
        os.close(descriptor)
        return None
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        # A process with this number died in mid-record today: its rest becomes a line of its own, and is counted.
        os.write(descriptor, b"\n")
    return descriptor


def _locks(descriptor: int, kind: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    return False


def _is(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to this file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
