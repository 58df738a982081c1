"""The files of the request log: one per process, day and size; open while someone writes it, later sealed.

    segment = open_segment(folder, "worker", day)        # an open, locked file
    for name in names(folder, first_day): …

NAME.crc.jsonl has checksums, NAME.jsonl (of older versions) has none, NAME.parquet is sealed. Whoever writes holds a
shared lock, so whoever seals sees that nobody does.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

CHECKED, PLAIN, SEALED = ".crc.jsonl", ".jsonl", ".parquet"
SEGMENT_BYTES = 32 << 20


def day_of(moment: float) -> str:
    """The UTC day of a moment (seconds since 1970), as YYYYMMDD."""
    return time.strftime("%Y%m%d", time.gmtime(max(moment, 0.0)))


def open_segment(folder: Path, source: str, day: str) -> int:
    """Open this process's segment for appending, with a torn tail mended; returns the descriptor.

    Raises:
        OSError: the folder or the file cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        name = f"{day}-{source}-{os.getpid()}" + (f".{number}" if number else "")
        descriptor = _claim(folder / f"{name}{CHECKED}", folder / f"{name}{SEALED}")
        if descriptor is not None:
            return descriptor
        number += 1


def claim_all(path: Path) -> int | None:
    """An open file that nobody writes, locked against writers; None while someone does, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    if _locks(descriptor, fcntl.LOCK_EX) and _is(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def names(folder: Path, first_day: str = "") -> list[str]:
    """Names of the segments from a day on, in order; one that is being sealed has one name."""
    found = set()
    for path in folder.iterdir() if folder.is_dir() else ():
        ending = next((one for one in (CHECKED, PLAIN, SEALED) if path.name.endswith(one)), None)
        if ending and not path.name.startswith(".") and path.name[: len(first_day)] >= first_day:
            # An old segment keeps its ending in its name: the same process may have one of each kind.
            found.add(path.name.removesuffix(CHECKED).removesuffix(SEALED))
    return sorted(found)


def open_path(folder: Path, name: str) -> tuple[Path, bool]:
    """Where the open form of a segment lies, and whether it has checksums."""
    plain = name.endswith(PLAIN)
    return folder / (name if plain else f"{name}{CHECKED}"), not plain


def _claim(path: Path, sealed: Path) -> int | None:
    if sealed.exists():
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    # Whoever seals may have taken it between the look and the lock.
    usable = _locks(descriptor, fcntl.LOCK_SH) and _is(descriptor, path) and not sealed.exists()
    size = os.fstat(descriptor).st_size
    if not usable or size >= SEGMENT_BYTES:
        os.close(descriptor)
        return None
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        # A process with this number died in mid-record today: its rest is a line of its own, and counted.
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
