"""Jobs and results as Avro messages, in the single-object encoding: marker, fingerprint of the schema, body.

body = encode(job); job = decode(body)      # raises Undecodable
"""

import functools
import io
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Shape = Literal["text", "texts", "infer"]

JOB_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SCHEMAS = Path(__file__).parent / "schemas"
_MARKER = b"\xc3\x01"
_HEADER_BYTES = 10


_LATER = ("request_id", "outputs", "top_k")


class Undecodable(ValueError):
    """The bytes are no message of this schema."""


@dataclass(frozen=True)
class Job:
    """One asynchronous request; see schemas/job.avsc."""

    id: str
    model: str
    texts: list[str]
    text_pairs: list[str] | None = None
    shape: Shape = "texts"
    user: str | None = None
    reply_to: str | None = None
    created: float = field(default_factory=time.time)
    request_id: str | None = None
    outputs: list[str] | None = None
    top_k: int | None = None

    def content(self) -> list[Any]:
        """What is asked: two jobs with the same content and id are the same job."""
        content = [self.model, self.shape, self.texts, self.text_pairs, self.user]
        # Only where they are used: what was asked before there were such fields is still the same.
        later = {name: value for name in _LATER if (value := getattr(self, name)) is not None}
        return [*content, later] if later else content


def encode(job: Job) -> bytes:
    """A job as a message."""
    return _write("job", {**asdict(job), "created": _moment(job.created)})


def decode(body: bytes) -> Job:
    """A message as a job.

    Raises:
        Undecodable: it is none, or names an id that cannot be one.
    """
    tree = _read("job", body)
    if not JOB_ID.fullmatch(tree["id"]):
        raise Undecodable("the id must be 1 to 100 letters, digits, dots, dashes or underscores")
    return Job(**{**tree, "created": tree["created"].timestamp()})


def encode_result(name: str, state: str, predictions: Sequence[Mapping[str, Any]], error: str | None) -> bytes:
    """What became of the job with the id `name`, as a message."""
    tree = {"id": name, "state": state, "predictions": predictions, "error": error, "completed": _moment(time.time())}
    return _write("result", tree)


def decode_result(body: bytes) -> dict[str, Any]:
    """A message as a result: id, state, predictions, error, completed.

    Raises:
        Undecodable: it is none.
    """
    return _read("result", body)


def _write(name: str, tree: Mapping[str, Any]) -> bytes:
    import fastavro

    header, schema = next(iter(_schemas(name).items()))
    output = io.BytesIO(header)
    output.seek(_HEADER_BYTES)
    fastavro.schemaless_writer(output, schema, dict(tree))
    return output.getvalue()


def _read(name: str, body: bytes) -> dict[str, Any]:
    import fastavro

    schemas = _schemas(name)
    written = schemas.get(body[:_HEADER_BYTES])
    if written is None:
        raise Undecodable(f"not an Avro {name} in the single-object encoding of schemas/{name}.avsc")
    stream = io.BytesIO(body[_HEADER_BYTES:])
    try:
        tree = fastavro.schemaless_reader(stream, written, next(iter(schemas.values())))
    except Exception as error:
        # What a truncated or altered body makes the decoder raise is wide.
        raise Undecodable(f"the Avro body cannot be decoded ({type(error).__name__})") from None
    if not isinstance(tree, dict) or stream.read(1):
        raise Undecodable("there are bytes behind the Avro body")
    return tree


@functools.cache
def _schemas(name: str) -> dict[bytes, Any]:
    """The parsed schemas by the ten bytes that every message of each begins with: the one in use, then former ones."""
    former = sorted((_SCHEMAS / "former").glob(f"{name}-*.avsc"), reverse=True)
    return dict(_parse(path) for path in (_SCHEMAS / f"{name}.avsc", *former))


def _parse(path: Path) -> tuple[bytes, Any]:
    import json

    from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

    schema = json.loads(path.read_text(encoding="utf-8"))
    print_of_it = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return _MARKER + bytes.fromhex(print_of_it), parse_schema(schema)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
