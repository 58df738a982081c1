"""Files that are either whole or absent: atomic writes, content digests, verified folders; file locks; YAML."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from tokka.errors import TokkaError

MANIFEST = "manifest.json"

# JSON: the keys of a document stand where it is written, as types where rules or other processes depend on them.
Json = Any
JsonObject = dict[str, Json]
Tree = Mapping[str, Json]


def digest_bytes(content: bytes) -> str:
    """The sha256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_json(value: object) -> str:
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


def check_readable(path: Path, hint: str = "check the path", field: str = "") -> None:
    """TokkaError when a path, which `field` names, is no file that can be read: missing, a folder, not ours to read."""
    try:
        if not path.is_file():
            named = f"{field}: " if field else ""
            raise TokkaError(f"{named}{path} {_what_it_is(path)}", hint)
        path.open("rb").close()
    except OSError as error:
        raise unreadable(error) from None


def unreadable(error: OSError) -> TokkaError:
    """What the operating system says of a file or folder, with what to do about it."""
    hint = "check the path"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = f"let the user that runs this (uid {os.getuid()}) read it and enter its folder: ls -ld"
    if error.errno == errno.EROFS:
        hint = "this file system cannot be written: name another folder, such as TOKKA_HOME"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, or set TOKKA_HOME to another disk"
    path = os.fsdecode(error.filename) if error.filename else "a file"
    return TokkaError(f"{path}: {error.strerror}", hint)


def _what_it_is(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"is a link to {path.readlink()}, which does not exist"
    return "is a folder, expected a file" if path.is_dir() else "is no file" if path.exists() else "does not exist"


def write_bytes(path: Path, content: bytes, *, sync: bool = True, mode: int | None = None) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    `sync`: reach the disk before returning; without it a power cut may lose the file, a kill may not; `mode`: of the
    file, from its first byte on; None for what the umask gives.
    """
    with written(path, sync=sync, mode=mode) as file:
        file.write(content)


@contextmanager
def written(path: Path, *, sync: bool = True, mode: int | None = None) -> Iterator[BinaryIO]:
    """`write_bytes` for what comes in parts: the file takes its place when the block has ended without an error.

    The temporary file lies in the target's own folder: a move from another file system is a copy.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a file lock, which the kernel frees when its holder dies; not reentrant.

    `timeout`: in seconds; negative for as long as it takes. TokkaError when another process still holds it after
    `timeout` seconds.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=timeout, mode=0o600):
            yield
    except Timeout:
        raise TokkaError(
            f"{path} is held by another process since more than {timeout:.0f} s",
            "wait for it to end, or end it; the lock frees itself",
        ) from None


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for text, in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: object) -> None:
    """`write_bytes` for a plain value; NaN and infinity raise ValueError, since no reader agrees on them."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Json:
    """Read what `write_json` wrote; TokkaError when the file is missing or is not JSON."""
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

    TokkaError when a file is missing, was added, is a link or has changed.
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


def _contents(folder: Path) -> dict[str, list[str | int]]:
    contents: dict[str, list[str | int]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise TokkaError(f"{path} is a link", "a sealed folder holds plain files only")
        if path.is_file() and name != MANIFEST:
            contents[name] = [digest_file(path), path.stat().st_size]
    return contents


class StandsTwice(ValueError):
    """A key of one mapping that stands there twice."""


class _Yaml(yaml.SafeLoader):
    """YAML 1.2, where `no` and `on` are words, `1e3` is a number and a date is a text; and no key stands twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as PyYAML composes it; StandsTwice with both lines."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if (key.tag, key.value) in lines:
                    first = lines[key.tag, key.value]
                    raise StandsTwice(f"{key.value!r} stands twice, on lines {first} and {line}")
                lines[key.tag, key.value] = line
        return node

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """012 is twelve; 0o14 and 0xC are too."""
        return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


_Yaml.yaml_implicit_resolvers = {}
# https://yaml.org/spec/1.2.2/#103-core-schema, and the merge key.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_Yaml.add_constructor("tag:yaml.org,2002:int", _Yaml.construct_integer)


def parse_yaml(text: str) -> object:
    """A document of YAML 1.2; StandsTwice, or one of PyYAML's errors or a ValueError for what is none."""
    return yaml.load(text, Loader=_Yaml)
