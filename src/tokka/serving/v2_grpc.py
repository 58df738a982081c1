"""KServe's gRPC service, whose answers carry as metadata what a REST answer's headers carry.

servicer = MarkingServicer(service, dataplane, repository)

A plain request (one or two string tensors, every output wanted) is answered without KServe's own types, which cost a
third of it; whatever is less plain goes KServe's way, and is answered in the same words.
"""

import logging
from collections.abc import Callable
from typing import Any

from grpc import StatusCode  # type: ignore[import-untyped]
from grpc.aio import AbortError  # type: ignore[import-untyped]
from kserve import InferRequest
from kserve.errors import InferenceError, InvalidInput, ModelNotFound
from kserve.protocol.grpc.grpc_predict_v2_pb2 import InferParameter, ModelInferResponse
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer

from tokka.serving import predict_api
from tokka.serving.infer_answer import answer_id, answer_types, column
from tokka.serving.model import Busy, VersionNotServed, as_the_request_s_fault, in_kserve_words, top_k_of
from tokka.serving.service import CANARY, ID, VERSION, Context, Service

logger = logging.getLogger("tokka.serving")

# What gRPC's own retries go by, in milliseconds: REST's Retry-After.
PUSHBACK = "grpc-retry-pushback-ms"
_FIELDS = {"BYTES": "bytes_contents", "FP64": "fp64_contents"}


class MarkingServicer(InferenceServicer):  # type: ignore[misc]
    """Prediction id, version and canary as metadata behind the answer; models cannot be loaded or unloaded.

    Behind it, so that a refusal, which has no answer, carries them too, in its head; of an answer the gateway makes a
    head from the message.
    """

    def __init__(self, service: Service, dataplane: Any, repository: Any) -> None:
        super().__init__(dataplane, repository)
        self._service = service

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer one request; the head is sent with the answer only, so that a refusal's status stands in its head."""
        asked = Context.from_headers({item.key: str(item.value) for item in context.invocation_metadata()})
        marks = {VERSION: self._service.options.version, CANARY: str(int(self._service.is_canary(asked)))}
        context.set_trailing_metadata(((ID, asked.request_id), *marks.items()))
        self._require_served(request.model_version)
        texts = plain_texts(request, self._service.options.name)
        if texts is None:
            return await self._answer_kserve_s_way(request, context)
        return await self._answer(request, texts, asked)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether the model is ready, in the version that is named."""
        self._require_served(request.version)
        return await super().ModelReady(request, context)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What the model takes and gives, in the version that is named."""
        self._require_served(request.version)
        return await super().ModelMetadata(request, context)

    def _require_served(self, version: str) -> None:
        if self._service.refusal_of(version):
            raise VersionNotServed(self._service, version)

    async def _answer_kserve_s_way(self, request: Any, context: Any) -> Any:
        with as_the_request_s_fault():
            self.validate_grpc_request(request)
            asked = InferRequest.from_grpc(request)
        headers = {item.key: str(item.value) for item in context.invocation_metadata()}
        answer, _ = await self._data_plane.infer(request=asked, headers=headers, model_name=request.model_name)
        return answer.to_grpc()

    async def _answer(self, request: Any, texts: dict[str, list[str]], asked: Context) -> Any:
        options, engine = self._service.options, self._service.engine
        with in_kserve_words(options.name):
            top_k = top_k_of(request.parameters)
            rows = predict_api.make_rows(
                texts.get("text"), texts.get("text_pair"), options.max_rows, engine.pairs, top_k
            )
            answers = await self._service.answer(rows, asked)
        response = ModelInferResponse(
            model_name=options.name,
            model_version=options.version,
            id=answer_id(request.id, answers),
            parameters={"canary": InferParameter(bool_param=self._service.is_canary(asked))},
        )
        for name, datatype in answer_types(engine.task, top_k).items():
            shape, values = column(name, answers)
            tensor = response.outputs.add(name=name, datatype=datatype, shape=shape)
            encoded = [value.encode() for value in values] if datatype == "BYTES" else values
            getattr(tensor.contents, _FIELDS[datatype]).extend(encoded)
        return response

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse: what serves is the deployment record's to say."""
        await context.abort(StatusCode.UNIMPLEMENTED, "models are deployed by the deployment record alone")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse, as for loading."""
        await context.abort(StatusCode.UNIMPLEMENTED, "models are deployed by the deployment record alone")


class StatusInterceptor(ExceptionToStatusInterceptor):  # type: ignore[misc]
    """KServe's exceptions as statuses; bytes that are no message are the client's mistake, the rest is logged."""

    def __init__(self) -> None:
        super().__init__()
        # A handler depends on its method alone: making one for each request costs a fortieth of it.
        self._handlers: dict[str, Any] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """The method's handler, which is made once."""
        method = handler_call_details.method
        handler = self._handlers.get(method) or await self._handler(continuation, handler_call_details)
        if handler is not None:
            self._handlers[method] = handler
        return handler

    async def _handler(self, continuation: Any, handler_call_details: Any) -> Any:
        """Have a message that cannot be read reach `intercept`: grpc itself would answer UNKNOWN."""

        async def tolerant(details: Any) -> Any:
            handler = await continuation(details)
            return handler and handler._replace(request_deserializer=_read_or_none(handler.request_deserializer))

        return await super().intercept_service(tolerant, handler_call_details)

    async def intercept(self, method: Any, request_or_iterator: Any, context: Any, method_name: str) -> Any:
        """Answer one call."""
        if request_or_iterator is None:
            await context.abort(
                StatusCode.INVALID_ARGUMENT, "the message cannot be read: it is not of this method's kind"
            )
        return await super().intercept(method, request_or_iterator, context, method_name)

    async def handle_exception(self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str) -> None:
        """Turn an exception into a status; over REST what fails here is a 503 as well."""
        if isinstance(ex, AbortError):
            raise ex
        if isinstance(ex, Busy):
            marks = (*(context.trailing_metadata() or ()), (PUSHBACK, "1000"))
            await context.abort(StatusCode.UNAVAILABLE, ex.reason, trailing_metadata=marks)
        if isinstance(ex, InvalidInput | InferenceError | ModelNotFound):
            await super().handle_exception(ex, request_or_iterator, context, method_name)
        ids = [str(item.value)[:80] for item in context.invocation_metadata() if item.key == ID]
        logger.error("a request failed", exc_info=ex, extra={"prediction_id": "".join(ids[:1]), "path": method_name})
        await context.abort(StatusCode.UNAVAILABLE, "the model server could not answer")


def _read_or_none(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def attempt(content: bytes) -> Any:
        try:
            return read(content)
        except Exception:
            return None

    return attempt


def plain_texts(request: Any, model: str) -> dict[str, list[str]] | None:
    """The texts of a `ModelInferRequest` by tensor; None unless it is a plain one for this model."""
    if request.model_name != model or request.raw_input_contents or request.outputs:
        return None
    found: dict[str, list[str]] = {}
    for tensor in request.inputs:
        values = tensor.contents.bytes_contents
        known = tensor.name in ("text", "text_pair") and tensor.datatype == "BYTES"
        if not known or list(tensor.shape) != [len(values)]:
            return None
        try:
            found[tensor.name] = [value.decode() for value in values]
        except UnicodeDecodeError:
            return None
    return found
