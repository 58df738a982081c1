"""A request that need not be answered now, as a job: what POST …/infer and POST /predict take, checked.

job = job_of("/predict", body, headers, model="helpdesk", max_rows=256, secret=secret)
"""

import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from tokka.serving import protocol
from tokka.serving.asynchronous.messages import Job, Shape
from tokka.serving.engine import Row
from tokka.serving.protocol import BadRequest
from tokka.serving.service import ID

KEY = "idempotency-key"
_KEY_FORM = re.compile(r"[\x21-\x7e]{1,200}")
# What tells callers apart: one caller's key must not find another's job.
_CALLER = ("x-tokka-client", "authorization", "x-api-key")


def job_of(
    path: str, body: bytes, headers: Mapping[str, str], *, model: str, max_rows: int, secret: bytes
) -> Job:  # fmt: skip
    """The job that a request asks for.

    Args:
        headers: lower-case names, from the gateway.
        secret: makes ids from idempotency keys that nobody can guess.

    Raises:
        BadRequest: the request would be refused if it were answered now, or its idempotency key is none.
    """
    shape, texts, partners = _infer(path, body, model) if path != "/predict" else _predict(body, max_rows)
    rows = protocol.make_rows(texts, partners, max_rows, partners is not None)
    return Job(
        id=_id(headers, model, secret), model=model, shape=shape, user=headers.get("x-user-id") or None,
        texts=[row.text for row in rows],
        text_pairs=None if partners is None else [str(row.pair) for row in rows],
    )  # fmt: skip


def _predict(body: bytes, max_rows: int) -> tuple[Shape, list[str], list[str] | None]:
    # Whether the model takes pairs is the worker's to say, later.
    pairs = _has_pairs(body)
    inputs = protocol.parse_predict(body, max_rows=max_rows, pairs=pairs)
    rows: list[Row] = inputs.rows
    partners = [str(row.pair) for row in rows] if pairs else None
    return ("texts" if inputs.several else "text"), [row.text for row in rows], partners


def _has_pairs(body: bytes) -> bool:
    """Whether there is a partner text; what cannot be read is refused by whoever reads it for good."""
    with contextlib.suppress(ValueError, RecursionError):
        tree = json.loads(body)
        return isinstance(tree, dict) and bool({"text_pair", "text_pairs"} & set(tree))
    return False


def _infer(path: str, body: bytes, model: str) -> tuple[Shape, Any, Any]:
    if path != f"/v2/models/{model}/infer":
        raise BadRequest(f"there is one model here: POST /v2/models/{model}/infer", 404)
    usage = 'send {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["…"]}]}'
    try:
        tree = json.loads(body)
        columns = {str(item["name"]): _column(item) for item in tree["inputs"]}
    except (ValueError, RecursionError, KeyError, TypeError):
        raise BadRequest(f"the body is no v2 request in JSON: {usage}") from None
    unknown = sorted(set(columns) - {"text", "text_pair"})
    if unknown:
        raise BadRequest(f"unknown input {unknown[0][:40]!r}: send text (BYTES)")
    return "infer", columns.get("text"), columns.get("text_pair")


def _column(item: Mapping[str, Any]) -> Any:
    if item["datatype"] != "BYTES":
        raise BadRequest(f"{str(item['name'])[:40]} must have the datatype BYTES")
    data = item["data"]
    while isinstance(data, list) and data and isinstance(data[0], list):
        data = [value for part in data for value in part]
    return data


def _id(headers: Mapping[str, str], model: str, secret: bytes) -> str:
    key = headers.get(KEY)
    if key is None:
        # The gateway's own: when it sends a request once more, that is the same job.
        return headers[ID]
    if not _KEY_FORM.fullmatch(key):
        raise BadRequest("Idempotency-Key must have 1 to 200 printable characters")
    caller = [headers.get(name, "") for name in _CALLER]
    return hmac.new(secret, json.dumps([model, caller, key]).encode(), hashlib.sha256).hexdigest()[:32]
