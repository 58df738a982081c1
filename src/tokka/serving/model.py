"""The model as KServe sees it: Open Inference Protocol v2, over REST and gRPC, on the same service as /predict.

Inputs: `text` (BYTES, [rows]) and, for pair models, `text_pair` (BYTES, [rows]). Outputs: `prediction_id` (BYTES),
then `label` (BYTES) and `score` (FP64), or `value` (FP64) for regression; all [rows].
With the parameter `top_k` (1 to 20) a classification gives `top_labels` (BYTES) and `top_scores` (FP64) too, both
[rows, k] with the most probable first; k is the number of classes when that is less.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.grpc_predict_v2_pb2 import InferParameter

from tokka.serving import predict_api
from tokka.serving.batching import Overloaded
from tokka.serving.engine import Row
from tokka.serving.infer_answer import answer_id, answer_types, column
from tokka.serving.predict_api import BadRequest
from tokka.serving.service import Context, Service


class Busy(ModelNotReady):  # type: ignore[misc]
    """Too much waits: 503 over REST, UNAVAILABLE over gRPC."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "Overloaded, try again.")
        self.reason = self.error_msg


class TooMuch(InvalidInput):  # type: ignore[misc]
    """More rows or characters than are taken: 422 over REST, INVALID_ARGUMENT over gRPC."""


class VersionNotServed(ModelNotFound):  # type: ignore[misc]
    """A version by name that is not this worker's: NOT_FOUND over gRPC."""

    def __init__(self, service: Service, version: str) -> None:
        super().__init__(service.options.name)
        self.reason = service.refusal_of(version)


class SpecialistModel(Model):  # type: ignore[misc]
    """One revision behind the Open Inference Protocol."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.options.name)
        self._service = service
        self.ready = True

    async def predict(
        self, payload: Any, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> InferResponse:
        """Answer one v2 request.

        Raises:
            InvalidInput: the request's own fault (400, or 422 for too much; INVALID_ARGUMENT).
            Busy: too much waits.
        """
        if not isinstance(payload, InferRequest):
            raise InvalidInput("use the v2 protocol: POST /v2/models/NAME/infer")
        context = Context.from_headers(headers or {})
        with in_kserve_words(self.name):
            top_k = top_k_of(payload.parameters)
            types = self._wanted(payload, top_k)
            answers = await self._service.answer(self._rows(payload, top_k), context)
        return self._response(payload, answers, types, self._service.is_canary(context))

    def get_input_types(self) -> list[dict[str, Any]]:
        """The tensors that `predict` takes."""
        names = ["text", "text_pair"] if self._service.engine.pairs else ["text"]
        return [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in names]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The tensors that `predict` gives."""
        types = answer_types(self._service.engine.task)
        return [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in types.items()]

    def _rows(self, request: InferRequest, top_k: int) -> list[Row]:
        unknown = [item.name for item in request.inputs if item.name not in ("text", "text_pair")]
        if unknown:
            raise BadRequest(f"unknown input {unknown[0][:40]!r}: send text (BYTES)")
        found = {item.name: _strings(item) for item in request.inputs}
        limit, pairs = self._service.options.max_rows, self._service.engine.pairs
        return predict_api.make_rows(found.get("text"), found.get("text_pair"), limit, pairs, top_k)

    def _wanted(self, request: InferRequest, top_k: int) -> dict[str, str]:
        """The output tensors that are asked for; all of them when none is named."""
        types = answer_types(self._service.engine.task, top_k)
        names = [output.name for output in request.request_outputs or ()]
        unknown = [name for name in names if name not in types]
        if unknown:
            raise BadRequest(f"unknown output {unknown[0][:40]!r}: there are {', '.join(types)}")
        return {name: types[name] for name in names} or types

    def _response(
        self, request: InferRequest, answers: list[dict[str, Any]], types: dict[str, str], canary: bool
    ) -> InferResponse:
        return InferResponse(
            response_id=answer_id(request.id, answers),
            model_name=self.name,
            model_version=self._service.options.version,
            infer_outputs=[_tensor(name, kind, *column(name, answers)) for name, kind in types.items()],
            from_grpc=request.from_grpc,
            parameters={"canary": canary},
            requested_outputs=request.request_outputs,
        )


class GuardedDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane, in which whatever goes wrong while decoding is the request's fault."""

    def decode(self, *arguments: Any, **named: Any) -> Any:
        """Decode a request body.

        Raises:
            InvalidInput: always, when it cannot be decoded.
        """
        with as_the_request_s_fault():
            request, attributes = super().decode(*arguments, **named)
            _require_sound(request)
        return request, attributes

    def encode(self, model_name: str, response: Any, headers: Any, req_attributes: Any) -> Any:
        """Encode an answer; headers that would make it a cloud event count for nothing, since none is decoded."""
        return super().encode(model_name, response, {}, req_attributes)

    def metadata(self) -> dict[str, Any]:
        """Server metadata: no repository extension, since models are deployed by the record alone."""
        return {**super().metadata(), "name": "tokka", "extensions": []}


@contextlib.contextmanager
def as_the_request_s_fault() -> Iterator[None]:
    """What a client may send is wide, and so is what decoding it may raise.

    Raises:
        InvalidInput: always, when anything is raised.
    """
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(f"the request cannot be decoded ({type(error).__name__})") from None


@contextlib.contextmanager
def in_kserve_words(name: str) -> Iterator[None]:
    """Raise a refusal as the error that KServe turns into a status.

    Raises:
        InvalidInput: the request's own fault (400, or 422 for too much; INVALID_ARGUMENT).
        Busy: too much waits.
    """
    try:
        yield
    except BadRequest as error:
        raise (TooMuch if error.status == 422 else InvalidInput)(str(error)) from None
    except Overloaded:
        raise Busy(name) from None


def top_k_of(parameters: Any) -> int:
    """How many classes a request's parameters want named: plain ones as in JSON, or those of a gRPC message.

    Raises:
        BadRequest: see `predict_api.parse_top_k`.
    """
    if not parameters or "top_k" not in parameters:
        return 0
    value = parameters["top_k"]
    if isinstance(value, InferParameter):
        chosen = value.WhichOneof("parameter_choice")
        value = getattr(value, chosen) if chosen else ""
    return predict_api.parse_top_k(value)


def _strings(item: InferInput) -> list[str]:
    if item.datatype != "BYTES":
        raise BadRequest(f"{item.name} must have the datatype BYTES")
    try:
        values = np.ravel(item.as_numpy()).tolist()
        texts = [value.decode() if isinstance(value, bytes) else value for value in values]
    except Exception:
        # What a client may put into a tensor is wide, and so is what decoding it may raise.
        raise BadRequest(f"{item.name} does not hold strings of the given shape") from None
    for text in texts:
        if not isinstance(text, str):
            raise BadRequest(f"{item.name} must hold strings, not {type(text).__name__}")
    return texts


def _require_sound(request: InferRequest) -> None:
    """See that what is looked into is a mapping, and what the answer repeats or is looked up by can be written."""
    for item in (request, *(request.request_outputs or ())):
        if not isinstance(item.parameters or {}, dict):
            raise InvalidInput("parameters must be an object")
    names = [item.name for item in (*request.inputs, *(request.request_outputs or ()))]
    for what, word in (("id", request.id or ""), *(("name", name) for name in names)):
        if not isinstance(word, str) or not predict_api.is_unicode(word):
            raise InvalidInput(f"{what} must be a string of valid Unicode")


def _tensor(name: str, datatype: str, shape: list[int], values: list[Any]) -> InferOutput:
    output = InferOutput(name, shape, datatype)
    dtype = np.object_ if datatype == "BYTES" else np.float64
    output.set_data_from_numpy(np.array(values, dtype=dtype).reshape(shape), binary_data=False)
    return output
