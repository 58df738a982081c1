"""Files that are either whole or absent: atomic writes, content digests, verified folders; and file locks.

write_json(folder / "gate.json", decision)      # whole or absent, also after kill -9
seal(folder); verify(folder)                    # a manifest of sha256 and size, and its check
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokka.errors import TokkaError

MANIFEST = "manifest.json"


def digest_bytes(content: bytes) -> str:
    """The sha256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_json(value: Any) -> str:
    """The sha256 of a plain value in canonical JSON (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return digest_bytes(text.encode())


def digest_file(path: Path) -> str:
    """The sha256 of a file's content, read in blocks: large ones, as each waits for the interpreter's lock once."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 23):
            digest.update(block)
    return digest.hexdigest()


def digest_folder(folder: Path) -> str:
    """One sha256 over the relative names and contents of every file below a folder."""
    return digest_json(_contents(folder))


def write_bytes(path: Path, content: bytes, *, sync: bool = True, mode: int | None = None) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    The temporary file lies in the target's own folder: a move from another file system is a copy.

    Args:
        sync: reach the disk before returning; without it a power cut may lose the file, a kill may not.
        mode: of the file, from its first byte on; None for what the umask gives.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        sync_folder(path.parent)


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a file lock, which the kernel frees when its holder dies; not reentrant.

    Args:
        timeout: in seconds; negative for as long as it takes.

    Raises:
        TokkaError: another process still holds it after `timeout` seconds.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=timeout):
            yield
    except Timeout:
        raise TokkaError(
            f"{path} is held by another process since more than {timeout:.0f} s",
            "wait for it to end, or end it; the lock frees itself",
        ) from None


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for text, in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for a plain value; NaN and infinity raise ValueError, since no reader agrees on them."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        TokkaError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokkaError(f"{path} cannot be read as JSON: {error}", "run the step that makes it again") from None


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal(folder: Path) -> str:
    """Write the manifest (sha256 and size of every file) into a folder and return the folder's digest."""
    contents = _contents(folder)
    write_json(folder / MANIFEST, contents)
    return digest_json(contents)


def verify(folder: Path) -> str:
    """Compare a sealed folder with its manifest and return its digest.

    Raises:
        TokkaError: a file is missing, was added, is a link or has changed.
    """
    wanted, found = read_json(folder / MANIFEST), _contents(folder)
    for name in sorted(set(wanted) | set(found)):
        if wanted.get(name) != found.get(name):
            state = "missing" if name not in found else "not in the manifest" if name not in wanted else "changed"
            raise TokkaError(f"{folder / name} is {state}", "it was altered after it was made: make it again")
    return digest_json(found)


def publish_folder(staging: Path, target: Path) -> None:
    """Move a finished folder to its place at once; whoever comes second gives way to the first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.replace(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(staging)
    sync_folder(target.parent)


def _contents(folder: Path) -> dict[str, list[Any]]:
    contents: dict[str, list[Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise TokkaError(f"{path} is a link", "a sealed folder holds plain files only")
        if path.is_file() and name != MANIFEST:
            contents[name] = [digest_file(path), path.stat().st_size]
    return contents
