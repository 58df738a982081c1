"""A request of the v2 protocol in JSON, held to what KServe would hold it to.

asked = parse_infer(body)
asked.columns["text"], asked.outputs, asked.request_id

Without KServe: importing it costs the daemon, which turns requests into jobs, seconds and 100 MB; and its own types
cost a worker a third of a plain request.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt, ValidationError

from tokka.serving.predict_api import BadRequest, parse_top_k

USAGE = 'send {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["…"]}]}'
INPUTS = ("text", "text_pair")
# The head of a request whose tensors follow its JSON as bytes.
BINARY = "inference-header-content-length"
Parameters = dict[str, StrictFloat | StrictInt | StrictBool | str]


class _Input(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: list[Any]


class _Output(BaseModel):
    name: str
    parameters: Parameters | None = None


class _Request(BaseModel):
    id: str | None = None
    parameters: Parameters | None = None
    inputs: list[_Input]
    outputs: list[_Output] | None = None


@dataclass(frozen=True)
class Asked:
    """What a request holds: texts by input, the outputs that it names (none: all), its id if any, top_k or 0.

    It is plain when it has nothing else in it: neither a choice of outputs nor a parameter that KServe would heed.
    """

    columns: dict[str, list[str]]
    outputs: list[str] | None
    request_id: str | None
    top_k: int
    plain: bool


def parse_infer(body: bytes) -> Asked:
    """Check the body of POST /v2/models/NAME/infer.

    Raises:
        BadRequest: it is no request of the protocol, names an input that there is not, or holds no strings.
    """
    request = _parse(body)
    unknown = [item.name for item in request.inputs if item.name not in INPUTS]
    if unknown:
        raise BadRequest(f"unknown input {unknown[0][:40]!r}: send text (BYTES)")
    columns = {item.name: _strings(item) for item in request.inputs}
    outputs = [output.name for output in request.outputs or ()]
    top_k = parse_top_k((request.parameters or {}).get("top_k"))
    return Asked(columns, outputs or None, request.id or None, top_k, _is_plain(request))


def _is_plain(request: _Request) -> bool:
    more = set(request.parameters or {}) - {"top_k"}
    return not (more or request.outputs or any(item.parameters for item in request.inputs))


def require_outputs(asked: Asked, given: Sequence[str]) -> None:
    """See that the model gives the outputs that a request names.

    Args:
        given: what it gives without being asked for more.

    Raises:
        BadRequest: it gives no such output.
    """
    known = [*given, *(("top_labels", "top_scores") if asked.top_k else ())]
    unknown = [name for name in asked.outputs or () if name not in known]
    if unknown:
        raise BadRequest(f"unknown output {unknown[0][:40]!r}: there are {', '.join(known)}")


def _parse(body: bytes) -> _Request:
    try:
        tree = json.loads(body)
        # What cannot be written as UTF-8 can be neither a message nor part of an answer.
        json.dumps(tree, ensure_ascii=False).encode()
        return _Request.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][:6])
        raise BadRequest(f"{place}: {first['msg']}: {USAGE}"[:300]) from None
    except UnicodeEncodeError:
        raise BadRequest("the request holds a string that is not valid Unicode") from None
    except (ValueError, RecursionError):
        raise BadRequest(f"the body is no v2 request in JSON: {USAGE}") from None


def _strings(item: _Input) -> list[str]:
    import numpy as np

    if item.datatype.upper() != "BYTES":
        raise BadRequest(f"{item.name} must have the datatype BYTES")
    try:
        texts = np.ravel(np.array(item.data, dtype=np.object_).reshape(item.shape)).tolist()
    except Exception:
        # What a client may put into a tensor is wide, and so is what shaping it may raise.
        raise BadRequest(f"{item.name} does not hold strings of the given shape") from None
    for text in texts:
        if not isinstance(text, str):
            raise BadRequest(f"{item.name} must hold strings, not {type(text).__name__}")
    return [str(text) for text in texts]
