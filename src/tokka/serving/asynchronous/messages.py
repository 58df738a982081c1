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
_SCHEMAS = Path(__file__).parents[1] / "schemas"
_MARKER = b"\xc3\x01"
_HEADER_BYTES = 10


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

    def content(self) -> list[Any]:
        """What is asked: two jobs with the same content and id are the same job."""
        return [self.model, self.shape, self.texts, self.text_pairs, self.user]


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

    schema, header = _schema(name)
    output = io.BytesIO(header)
    output.seek(_HEADER_BYTES)
    fastavro.schemaless_writer(output, schema, dict(tree))
    return output.getvalue()


def _read(name: str, body: bytes) -> dict[str, Any]:
    import fastavro

    schema, header = _schema(name)
    if body[:_HEADER_BYTES] != header:
        raise Undecodable(f"not an Avro {name} in the single-object encoding of schemas/{name}.avsc")
    stream = io.BytesIO(body[_HEADER_BYTES:])
    try:
        tree = fastavro.schemaless_reader(stream, schema, None)
    except Exception as error:
        # What a truncated or altered body makes the decoder raise is wide.
        raise Undecodable(f"the Avro body cannot be decoded ({type(error).__name__})") from None
    if not isinstance(tree, dict) or stream.read(1):
        raise Undecodable("there are bytes behind the Avro body")
    return tree


@functools.cache
def _schema(name: str) -> tuple[Any, bytes]:
    """The parsed schema, and the ten bytes that every message of it begins with."""
    import json

    from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

    schema = json.loads((_SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))
    print_of_it = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return parse_schema(schema), _MARKER + bytes.fromhex(print_of_it)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
