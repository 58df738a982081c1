"""Jobs and results as Avro messages, in the single-object encoding: marker, fingerprint of the schema, body.

The fingerprint in every message is the version of its format; there is one schema of each, job.avsc and result.avsc.
"""

import functools
import io
import re
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tokka import files
from tokka.gateway.client import JsonObject

if TYPE_CHECKING:
    from fastavro.types import Schema

Shape = Literal["text", "texts", "infer"]

JOB_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_MARKER = b"\xc3\x01"
_HEADER_BYTES = 10
_PREDICTION = ("prediction_id", "model_version", "canary", "label", "score", "value", "top", "unsure")


class Undecodable(ValueError):
    """The bytes are no message of this schema."""


@dataclass(frozen=True)
class Job:
    """One asynchronous request; the fields are explained in job.avsc."""

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

    def digest(self) -> str:
        """A digest of what is asked: two messages with the same id and digest are the same job."""
        asked = asdict(self)
        return files.digest_json({name: asked[name] for name in asked if name not in ("id", "reply_to", "created")})


def encode(job: Job) -> bytes:
    """A job as a message."""
    return _write("job", {**asdict(job), "created": datetime.fromtimestamp(job.created, UTC)})


def decode(body: bytes) -> Job:
    """A message as a job; raises Undecodable when it is none, or its id is not allowed."""
    tree = _read("job", body)
    if not JOB_ID.fullmatch(tree["id"]):
        raise Undecodable("the id must be 1 to 100 letters, digits, dots, dashes or underscores")
    return Job(**{**tree, "created": tree["created"].timestamp()})


def encode_result(name: str, state: str, answer: JsonObject) -> bytes:
    """The outcome of the job with the id `name`, as a message: an endpoint's answer, or {"error": …}."""
    rows = predictions_of(answer) if state == "done" else []
    tree = {"id": name, "state": state, "predictions": rows, "error": answer.get("error")}
    return _write("result", {**tree, "completed": datetime.now(UTC)})


def decode_result(body: bytes) -> JsonObject:
    """A message as a result (id, state, predictions, error, completed); raises Undecodable when it is none."""
    return _read("result", body)


def predictions_of(answer: JsonObject) -> list[JsonObject]:
    """The rows of an answer, as result.avsc names them: of /predict with one text or several, or of the v2 protocol."""
    if "outputs" not in answer:
        return [{name: row.get(name) for name in _PREDICTION} for row in answer.get("predictions", [answer])]
    columns = {output["name"]: _by_row(output) for output in answer["outputs"]}
    canary = bool((answer.get("parameters") or {}).get("canary", False))
    shared = {"model_version": str(answer.get("model_version", "")), "canary": canary}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    # A request may leave the prediction's id out of its outputs.
    return [{**dict.fromkeys(_PREDICTION), "prediction_id": "", **shared, **row, "top": _top(row)} for row in rows]


def _by_row(output: JsonObject) -> list[object]:
    """A tensor's values, one entry per row: the protocol flattens a matrix by rows."""
    data, shape = output["data"], output.get("shape", ())
    return list(data) if len(shape) < 2 else [data[start : start + shape[1]] for start in range(0, len(data), shape[1])]


def _top(row: JsonObject) -> list[JsonObject] | None:
    labels, scores = row.get("top_labels"), row.get("top_scores")
    if labels is None or scores is None:
        return None
    return [{"label": label, "score": score} for label, score in zip(labels, scores, strict=True)]


def _write(name: str, tree: dict[str, object]) -> bytes:
    import fastavro

    header, schema = _schema(name)
    output = io.BytesIO()
    fastavro.schemaless_writer(output, schema, tree)
    return header + output.getvalue()


def _read(name: str, body: bytes) -> JsonObject:
    import fastavro

    header, schema = _schema(name)
    if body[:_HEADER_BYTES] != header:
        raise Undecodable(f"not an Avro {name} in the single-object encoding of {name}.avsc")
    stream = io.BytesIO(body[_HEADER_BYTES:])
    try:
        tree = fastavro.schemaless_reader(stream, schema, None)
    except Exception as error:
        # A truncated or altered body makes the decoder raise many kinds of exceptions.
        raise Undecodable(f"the Avro body cannot be decoded ({type(error).__name__})") from None
    if not isinstance(tree, dict) or stream.read(1):
        raise Undecodable("there are bytes behind the Avro body")
    return tree


@functools.cache
def _schema(name: str) -> "tuple[bytes, Schema]":
    """The ten bytes with which every message of a schema begins, and the parsed schema."""
    from fastavro.schema import fingerprint, load_schema, to_parsing_canonical_form

    schema = load_schema(str(Path(__file__).with_name(f"{name}.avsc")))
    return _MARKER + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")), schema
