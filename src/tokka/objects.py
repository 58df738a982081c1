"""Objects by address: `s3://bucket/name` of any S3-compatible storage, or a path of this machine.

Endpoint and credentials are boto3's own affair: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …, or the service account. Every
function raises TokkaError in words when the storage refuses, has no such bucket or object, or does not answer.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tokka import files
from tokka.errors import Missing, TokkaError, UsageError

SCHEME = "s3://"
BLOCK = 1 << 20
# Some tries within half a minute: storage that is restarted or overloaded (503) comes back.
TRIES, CONNECT_S, READ_S = 6, 5, 30
HINTS = {
    "credentials": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod a service account that may",
    "bucket": "create the bucket, or correct the address",
    "object": "check the address",
    "endpoint": "check AWS_ENDPOINT_URL and that the storage runs",
}
REFUSED = ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "401", "ExpiredToken", "Forbidden")
BUSY = ("503", "SlowDown", "ServiceUnavailable", "500", "InternalError")


class Listed(NamedTuple):
    """An object's size in bytes, and when it was written (seconds since 1970)."""

    size: int
    written: float


# boto3's client: it ships no types.
Foreign = Any


def is_remote(address: str) -> bool:
    """Whether an address is that of an object storage; else it is a path."""
    return address.startswith(SCHEME)


def join(base: str, name: str) -> str:
    """The address of a name below another one."""
    return f"{base.rstrip('/')}/{name}"


def blocks(address: str) -> Iterator[bytes]:
    """The content of an object in S3, in blocks."""
    bucket, name = _parts(address)
    with _translated(address, "read"), closing(_client().get_object(Bucket=bucket, Key=name)["Body"]) as body:
        yield from body.iter_chunks(BLOCK)


def stamp(address: str) -> str:
    """What an object in S3 is known by as long as it is the same one; empty where the storage gives no such mark."""
    bucket, name = _parts(address)
    with _translated(address, "read"):
        return str(_client().head_object(Bucket=bucket, Key=name).get("ETag", ""))


def read(address: str, into: Path, most: int) -> None:
    """Copy an object to a file, which is whole or absent; TokkaError when it has more than `most` bytes."""
    into.parent.mkdir(parents=True, exist_ok=True)
    part, size = into.with_name(f".{into.name}.{os.getpid()}.part"), 0
    try:
        with part.open("wb") as file:
            for block in blocks(address) if is_remote(address) else _blocks_of(Path(address)):
                size += file.write(block)
                if size > most:
                    raise TokkaError(f"{address} has more than {most:,} bytes", "it is not what was expected there")
        part.replace(into)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, address: str) -> None:
    """Copy a file to an address; an object that is there is replaced as a whole."""
    if is_remote(address):
        bucket, name = _parts(address)
        with _translated(address, "written"), path.open("rb") as file:
            _client().put_object(Bucket=bucket, Key=name, Body=file)
    elif Path(address) != path:
        files.write_bytes(Path(address), path.read_bytes(), mode=0o600)


def put(content: bytes, address: str) -> None:
    """Write some bytes to an address; an object that is there is replaced as a whole."""
    if is_remote(address):
        bucket, name = _parts(address)
        with _translated(address, "written"):
            _client().put_object(Bucket=bucket, Key=name, Body=content)
    else:
        files.write_bytes(Path(address), content, mode=0o600)


def names(base: str) -> list[str]:
    """The names of the objects below an address, in order."""
    return sorted(listing(base))


def listing(base: str, *, deep: bool = True) -> dict[str, Listed]:
    """The objects below an address by name; without `deep` those whose name has no folder."""
    if not is_remote(base):
        found = (path for path in Path(base).glob("**/*" if deep else "*") if path.is_file())
        return {path.relative_to(base).as_posix(): Listed(*_stamps(path)) for path in found}
    bucket, prefix = _parts(join(base, "x"))
    prefix = prefix.removesuffix("x")
    with _translated(base, "listed"):
        asked = {"Bucket": bucket, "Prefix": prefix} | ({} if deep else {"Delimiter": "/"})
        pages = _client().get_paginator("list_objects_v2").paginate(**asked)
        return {
            one["Key"].removeprefix(prefix): Listed(one["Size"], one["LastModified"].timestamp())
            for page in pages
            for one in page.get("Contents", [])
        }


def delete(address: str) -> None:
    """Remove an object; one that is not there is no error."""
    if is_remote(address):
        bucket, name = _parts(address)
        with _translated(address, "deleted"):
            _client().delete_object(Bucket=bucket, Key=name)
    else:
        Path(address).unlink(missing_ok=True)


def prove(base: str, scratch: Path) -> None:
    """See that objects below an address can be written, read back and deleted, by doing so."""
    address, sent, back = join(base, f".tokka-{os.urandom(6).hex()}"), scratch / "sent", scratch / "back"
    sent.write_bytes(os.urandom(64))
    write(sent, address)
    try:
        read(address, back, most=64)
    finally:
        delete(address)
    if back.read_bytes() != sent.read_bytes():
        raise TokkaError(f"{base} gave back other bytes than it was given", "the storage cannot be trusted")


def forget_client() -> None:
    """Ask the environment again: for tests, whose storages come and go."""
    _client.cache_clear()


@functools.cache
def _client() -> Foreign:
    import boto3
    from botocore.config import Config

    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    # Names of buckets are no hosts of a storage of one's own, and not all of these know the newer checksums.
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": TRIES, "mode": "standard"},
        s3={"addressing_style": "path" if own else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # Without a region boto3 asks the network for one; storages of one's own have none.
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ("us-east-1" if own else None)
    return boto3.session.Session().client("s3", config=config, region_name=region)


def _stamps(path: Path) -> tuple[int, float]:
    found = path.stat()
    return found.st_size, found.st_mtime


def _parts(address: str) -> tuple[str, str]:
    bucket, _, name = address.removeprefix(SCHEME).partition("/")
    if not bucket or not name:
        raise UsageError(f"{address!r} names no object", "use s3://BUCKET/NAME")
    return bucket, name


def _blocks_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from iter(lambda: file.read(BLOCK), b"")
    except OSError as error:
        raise TokkaError(f"{path} cannot be read: {error.strerror}", "check the path") from None


@contextmanager
def _translated(address: str, done: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
    from urllib3.exceptions import HTTPError

    where = f" by {endpoint}" if (endpoint := os.environ.get("AWS_ENDPOINT_URL", "")) else ""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError):
        raise TokkaError(f"{address} cannot be {done}: there are no credentials for it", HINTS["credentials"]) from None
    except ClientError as error:
        reason, kind = _reason(error.response.get("Error", {}), address)
        problem = Missing if kind == "object" else TokkaError
        raise problem(f"{address} cannot be {done}{where}: {reason}", HINTS[kind]) from None
    except (BotoCoreError, HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TokkaError(f"{address} cannot be {done}{where}: {reason}", HINTS["endpoint"]) from None


def _reason(error: dict[str, str], address: str) -> tuple[str, str]:
    code, said = str(error.get("Code", "")), str(error.get("Message", ""))
    if code in REFUSED:
        return f"the storage refuses these credentials ({code})", "credentials"
    if code == "NoSuchBucket":
        return f"there is no bucket {_parts(address + '/x')[0]!r}", "bucket"
    if code in ("404", "NoSuchKey"):
        return "there is no such object", "object"
    if code in BUSY:
        return f"the storage is overloaded or broken ({code}), also after {TRIES} tries", "endpoint"
    return f"{code}: {said}".strip(": "), "endpoint"
