"""A request that need not be answered now, as a job: what POST …/infer and POST /predict take, checked.

job = job_of("/predict", body, headers, model="helpdesk", max_rows=256, secret=secret)
"""

import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tokka.jobs.messages import Job
from tokka.serving import predict_api
from tokka.serving.engine import Row
from tokka.serving.predict_api import BadRequest
from tokka.serving.service import ID
from tokka.serving.v2_json import BINARY, INPUTS, parse_infer, require_outputs

KEY = "idempotency-key"
_KEY_FORM = re.compile(r"[\x21-\x7e]{1,200}")
# What tells callers apart: one caller's key must not find another's job.
_CALLER = ("x-tokka-client", "authorization", "x-api-key")


@dataclass(frozen=True)
class Interface:
    """What the model takes and gives now, by the names of the v2 protocol."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def job_of(
    path: str, body: bytes, headers: Mapping[str, str], *,
    model: str, max_rows: int, secret: bytes, interface: Interface | None = None,
) -> Job:  # fmt: skip
    """The job that a request asks for.

    Args:
        headers: lower-case names, from the gateway.
        secret: makes ids from idempotency keys that nobody can guess.
        interface: None when nothing serves: what the model would refuse is then said later.

    Raises:
        BadRequest: the request would be refused if it were answered now, or its idempotency key is none.
    """
    job = Job(id=_id(headers, model, secret), model=model, user=headers.get("x-user-id") or None, texts=[])
    if path == "/predict":
        return _predict(job, body, max_rows, interface)
    if path != f"/v2/models/{model}/infer":
        raise BadRequest(f"there is one model here: POST /v2/models/{model}/infer", 404)
    if BINARY in headers:
        raise BadRequest("a request with binary tensors cannot wait: send them as JSON")
    return _infer(job, body, max_rows, interface)


def _predict(job: Job, body: bytes, max_rows: int, interface: Interface | None) -> Job:
    pairs = _takes_pairs(interface, _has_pairs(body))
    inputs = predict_api.parse_predict(body, max_rows=max_rows, pairs=pairs)
    return _with_rows(replace(job, shape="texts" if inputs.several else "text"), inputs.rows, interface)


def _infer(job: Job, body: bytes, max_rows: int, interface: Interface | None) -> Job:
    asked = parse_infer(body)
    if interface is not None:
        require_outputs(asked, interface.outputs)
    texts, partners = (asked.columns.get(name) for name in INPUTS)
    pairs = _takes_pairs(interface, partners is not None)
    rows = predict_api.make_rows(texts, partners, max_rows, pairs, asked.top_k)
    job = replace(job, shape="infer", outputs=asked.outputs, request_id=asked.request_id)
    return _with_rows(job, rows, interface)


def _with_rows(job: Job, rows: Sequence[Row], interface: Interface | None) -> Job:
    if interface is not None and "value" in interface.outputs:
        predict_api.require_classes(rows, "regression")
    partners = [row.pair for row in rows if row.pair is not None]
    return replace(
        job, texts=[row.text for row in rows], text_pairs=partners or None, top_k=rows[0].top_k or None
    )  # fmt: skip


def _takes_pairs(interface: Interface | None, sent: bool) -> bool:
    """Whether the model compares pairs; as it is sent while nobody says so."""
    return sent if interface is None else "text_pair" in interface.inputs


def _has_pairs(body: bytes) -> bool:
    """Whether there is a partner text; what cannot be read is refused by whoever reads it for good."""
    with contextlib.suppress(ValueError, RecursionError):
        tree = json.loads(body)
        return isinstance(tree, dict) and bool({"text_pair", "text_pairs"} & set(tree))
    return False


def _id(headers: Mapping[str, str], model: str, secret: bytes) -> str:
    key = headers.get(KEY)
    if key is None:
        # The gateway's own: when it sends a request once more, that is the same job.
        return headers[ID]
    if not _KEY_FORM.fullmatch(key):
        raise BadRequest("Idempotency-Key must have 1 to 200 printable characters")
    caller = [headers.get(name, "") for name in _CALLER]
    return hmac.new(secret, json.dumps([model, caller, key]).encode(), hashlib.sha256).hexdigest()[:32]
