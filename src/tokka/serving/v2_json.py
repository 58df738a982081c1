"""The Open Inference Protocol v2 in JSON, with the extension for binary tensors: requests read, answers written.

Inputs: `text` (BYTES, [rows]) and, for pair models, `text_pair`. Outputs: `prediction_id` (BYTES), then `label` (BYTES)
and `score` (FP64), or `value` (FP64) for regression; all [rows]. With the parameter `top_k` (1 to 20) a classification
gives `top_labels` (BYTES) and `top_scores` (FP64) too, both [rows, k], the most probable class first; k is the number
of classes when that is less. With the parameter `level` (such as 0.9) it gives `set` (BYTES, [rows]): a JSON list of
the classes of which the truth is one at that level. With serving.threshold it gives `unsure` (BOOL, [rows]).
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from typing import TypedDict

from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt

from tokka.serving.engine import Row
from tokka.serving.predict_api import Answer, BadRequest, make_rows, parse_body, parse_level, parse_top_k

USAGE = 'send {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["…"]}]}'
INPUTS = ("text", "text_pair")
# The header of a message whose tensors follow its JSON as bytes: the length of the JSON.
BINARY = "inference-header-content-length"
Parameters = dict[str, StrictFloat | StrictInt | StrictBool | str]


class InferInput(BaseModel):
    """An input tensor; `data` is nested or flat, row by row, or absent when the tensor follows the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: list[object] | None = None


class InferOutput(BaseModel):
    """An output tensor that is asked for."""

    name: str
    parameters: Parameters | None = None


class InferRequest(BaseModel):
    """The body of POST /v2/models/NAME/infer."""

    id: str | None = None
    parameters: Parameters | None = None
    inputs: list[InferInput]
    outputs: list[InferOutput] | None = None


class TensorMetadata(TypedDict):
    """A tensor that a model takes or gives; -1 in its shape stands for any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """What GET /v2/models/NAME answers."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(TypedDict):
    """What GET /v2 answers."""

    name: str
    version: str
    extensions: list[str]


@dataclass(frozen=True)
class InferCall:
    """What an inference request says, over either protocol.

    Args:
        columns: texts by input.
        outputs: the output tensors that are asked for, and whether each is wanted as bytes; empty means all.
        top_k: classes that the answer shall name beside the best; 0 for none.
        level: of the prediction sets that are asked for; empty for none.
        binary: whether outputs are wanted as bytes when none is named.
    """

    columns: dict[str, list[str]]
    outputs: dict[str, bool] = field(default_factory=dict)
    request_id: str | None = None
    top_k: int = 0
    binary: bool = False
    level: str = ""

    def rows(self, max_rows: int, pairs: bool) -> list[Row]:
        """The rows to answer; raises as `make_rows` does."""
        texts, partners = (self.columns.get(name) for name in INPUTS)
        return make_rows(texts, partners, max_rows, pairs, self.top_k, self.level)

    def tensors(self, task: str, threshold: float = 0.0) -> dict[str, str]:
        """The tensors of the answer as {name: datatype}; raises BadRequest for an output that there is not."""
        known = output_types(task, self.top_k, self.level, threshold)
        if unknown := [name for name in self.outputs if name not in known]:
            raise BadRequest(f"unknown output {unknown[0][:40]!r}: there are {', '.join(known)}")
        return {name: known[name] for name in self.outputs} or known


def output_types(task: str, top_k: int = 0, level: str = "", threshold: float = 0.0) -> dict[str, str]:
    """Every tensor of an answer as {name: datatype}."""
    if task == "regression":
        return {"prediction_id": "BYTES", "value": "FP64"}
    best = {"prediction_id": "BYTES", "label": "BYTES", "score": "FP64"}
    best |= {"top_labels": "BYTES", "top_scores": "FP64"} if top_k else {}
    best |= {"set": "BYTES"} if level else {}
    return best | ({"unsure": "BOOL"} if threshold else {})


def describe_tensors(types: Mapping[str, str]) -> list[TensorMetadata]:
    """Tensors of one number per row."""
    return [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in types.items()]


def server_metadata() -> ServerMetadata:
    """The server, as the v2 protocol has it."""
    return {"name": "tokka", "version": version("tokka"), "extensions": ["binary_tensor_data"]}


def column(name: str, answers: Sequence[Answer]) -> tuple[list[int], list[str | float]]:
    """Shape and values, row by row, of one tensor of an answer."""
    if name in ("top_labels", "top_scores"):
        values = [one["label"] if name == "top_labels" else one["score"] for row in answers for one in row["top"]]
        return [len(answers), len(answers[0]["top"])], values
    if name == "set":
        return [len(answers)], [json.dumps(row["set"], ensure_ascii=False) for row in answers]
    return [len(answers)], [row[name] for row in answers]  # type: ignore[literal-required]  # one of output_types


def answer_id(request_id: str | None, answers: Sequence[Answer]) -> str:
    """The id of an answer: the request's own, or the stem of its rows' prediction ids."""
    return request_id or answers[0]["prediction_id"].partition(".")[0]


def parse_infer(body: bytes, headers: Mapping[str, str] | None = None) -> InferCall:
    """Read the body of POST /v2/models/NAME/infer; of the headers one says where the JSON ends and tensors begin.

    Raises BadRequest when it is no request of the protocol, names an input that there is not, or holds no strings.
    """
    end = _json_bytes(body, (headers or {}).get(BINARY))
    request, tensors = parse_body(InferRequest, body[:end], USAGE), body[end:]
    columns = {}
    for item in request.inputs:
        require_input(item.name, item.datatype)
        size = _binary_size(item)
        texts = read_strings(tensors[:size]) if item.data is None else _flat(item.data)
        columns[item.name] = require_shape(item.name, item.shape, texts)
        tensors = tensors[size:]
    parameters = request.parameters or {}
    binary = parameters.get("binary_data_output") is True
    outputs = {one.name: (one.parameters or {}).get("binary_data", binary) is True for one in request.outputs or ()}
    top_k, level = parse_top_k(parameters.get("top_k")), parse_level(parameters.get("level"))
    return InferCall(columns, outputs, request.id or None, top_k, binary, level)


def write_answer(
    call: InferCall, answers: Sequence[Answer], tensors: Mapping[str, str], *, name: str
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an answer of the model `name`; `tensors` are the outputs as {name: datatype}."""
    outputs, binary = [], []
    for tensor, datatype in tensors.items():
        shape, values = column(tensor, answers)
        output: dict[str, object] = {"name": tensor, "shape": shape, "datatype": datatype}
        if call.outputs.get(tensor, call.binary):
            binary.append(write_tensor(datatype, values))
            outputs.append({**output, "parameters": {"binary_data_size": len(binary[-1])}})
        else:
            outputs.append({**output, "data": values})
    tree = {
        "id": answer_id(call.request_id, answers), "model_name": name, "model_version": answers[0]["model_version"],
        "outputs": outputs, "parameters": {"canary": answers[0]["canary"]},
    }  # fmt: skip
    head = to_json(tree)
    headers = {BINARY: str(len(head)), "content-type": "application/octet-stream"} if binary else {}
    return b"".join([head, *binary]), headers


def to_json(tree: object) -> bytes:
    """A JSON text."""
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def write_tensor(datatype: str, values: Sequence[str | float]) -> bytes:
    """A tensor as bytes, little-endian; each string behind its length in four bytes."""
    if datatype == "FP64":
        return struct.pack(f"<{len(values)}d", *values)
    if datatype == "BOOL":
        return bytes(map(bool, values))
    encoded = [str(value).encode() for value in values]
    return b"".join(len(one).to_bytes(4, "little") + one for one in encoded)


def read_strings(content: bytes) -> list[str]:
    """The strings of a BYTES tensor; raises BadRequest when its bytes are none, or not in UTF-8."""
    texts, start = [], 0
    while start < len(content):
        end = start + 4 + int.from_bytes(content[start : start + 4], "little")
        if not start + 4 <= end <= len(content):
            raise BadRequest("a string goes beyond the bytes of its tensor")
        texts.append(read_text(content[start + 4 : end]))
        start = end
    return texts


def read_text(content: bytes) -> str:
    """A string of a BYTES tensor; raises BadRequest when it is not in UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadRequest("a text is not valid Unicode in UTF-8") from None


def require_input(name: str, datatype: str) -> None:
    """Raise BadRequest unless there is such an input."""
    if name not in INPUTS:
        raise BadRequest(f"unknown input {name[:40]!r}: send text (BYTES)")
    if datatype.upper() != "BYTES":
        raise BadRequest(f"{name} must have the datatype BYTES")


def require_shape(name: str, shape: Sequence[int], texts: Sequence[object]) -> list[str]:
    """The texts of an input tensor; raises BadRequest unless they are strings and as many as its shape says."""
    if -1 not in shape and math.prod(shape) != len(texts):
        raise BadRequest(f"{name} does not hold strings of the given shape")
    strings = [text for text in texts if isinstance(text, str)]
    if len(strings) < len(texts):
        odd = next(text for text in texts if not isinstance(text, str))
        raise BadRequest(f"{name} must hold strings, not {type(odd).__name__}")
    return strings


def _json_bytes(body: bytes, length: str | None) -> int:
    if length is None:
        return len(body)
    if not length.isascii() or not length.isdigit() or int(length) > len(body):
        raise BadRequest("Inference-Header-Content-Length must be the length of the JSON at the body's start")
    return int(length)


def _binary_size(item: InferInput) -> int:
    """How many bytes of the tensor follow the JSON."""
    if item.data is not None:
        return 0
    size = (item.parameters or {}).get("binary_data_size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadRequest(f"{item.name[:40]} has neither data nor binary_data_size: {USAGE}")
    return size


def _flat(data: list[object]) -> list[object]:
    rows = [part for part in data if isinstance(part, list)]
    return _flat(list(chain.from_iterable(rows))) if data and len(rows) == len(data) else data
