"""The Open Inference Protocol v2 over gRPC; answers and refusals carry as metadata what a REST answer's headers carry.

server, port = await start(service, "127.0.0.1")

Prediction id, version and canary stand behind an answer, so that a refusal, which has no message, carries them in its
head; of an answer the gateway makes a head from the message. REST's 400, 413 and 422 are INVALID_ARGUMENT, 404 is
NOT_FOUND, 503 is UNAVAILABLE.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from tokka.serving import open_inference_pb2 as pb
from tokka.serving.batching import Overloaded
from tokka.serving.predict_api import BadRequest, parse_top_k
from tokka.serving.service import CANARY, ID, VERSION, Context, Service
from tokka.serving.v2_json import (
    InferCall,
    answer_id,
    column,
    read_strings,
    read_text,
    require_input,
    require_shape,
    server_metadata,
    write_tensor,
)  # fmt: skip

logger = logging.getLogger("tokka.serving")

SERVICE = "inference.GRPCInferenceService"
# What gRPC's own retries go by, in milliseconds: REST's Retry-After.
PUSHBACK = "grpc-retry-pushback-ms"
_FIELDS = {"BYTES": "bytes_contents", "FP64": "fp64_contents"}

Request = TypeVar("Request", bound=Message)
Method = Callable[[Request, grpc.aio.ServicerContext], Awaitable[Message]]


class InferenceServicer:
    """The six methods of the protocol for one model; models cannot be loaded or unloaded."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a gRPC server calls, by method."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "ServerLive": _handler(pb.ServerLiveRequest, self._server_live),
                "ServerReady": _handler(pb.ServerReadyRequest, self._server_ready),
                "ServerMetadata": _handler(pb.ServerMetadataRequest, self._server_metadata),
                "ModelReady": _handler(pb.ModelReadyRequest, self._model_ready),
                "ModelMetadata": _handler(pb.ModelMetadataRequest, self._model_metadata),
                "ModelInfer": _handler(pb.ModelInferRequest, self._model_infer),
            },
        )

    async def _server_live(self, request: pb.ServerLiveRequest, context: grpc.aio.ServicerContext) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, request: pb.ServerReadyRequest, context: grpc.aio.ServicerContext) -> Message:
        return pb.ServerReadyResponse(ready=True)

    async def _server_metadata(self, request: pb.ServerMetadataRequest, context: grpc.aio.ServicerContext) -> Message:
        return pb.ServerMetadataResponse(**server_metadata())

    async def _model_ready(self, request: pb.ModelReadyRequest, context: grpc.aio.ServicerContext) -> Message:
        self._service.require_served(request.name, request.version)
        return pb.ModelReadyResponse(ready=True)

    async def _model_metadata(self, request: pb.ModelMetadataRequest, context: grpc.aio.ServicerContext) -> Message:
        self._service.require_served(request.name, request.version)
        return pb.ModelMetadataResponse(**self._service.metadata())

    async def _model_infer(self, request: pb.ModelInferRequest, context: grpc.aio.ServicerContext) -> Message:
        """Answer one request; the head is sent with the answer only, so that a refusal's status stands in its head."""
        service, asked = self._service, Context.from_headers(_headers(context))
        canary = service.is_canary(asked)
        marks = ((ID, asked.request_id), (VERSION, service.options.version), (CANARY, str(int(canary))))
        context.set_trailing_metadata(marks)
        service.require_served(request.model_name, request.model_version)
        call = read_request(request)
        tensors, answers = await service.infer(call, asked)
        response = pb.ModelInferResponse(
            model_name=service.options.name, model_version=service.options.version,
            id=answer_id(call.request_id, answers), parameters={"canary": pb.InferParameter(bool_param=canary)},
        )  # fmt: skip
        for name, datatype in tensors.items():
            shape, values = column(name, answers)
            tensor = response.outputs.add(name=name, datatype=datatype, shape=shape)
            if call.binary:
                response.raw_output_contents.append(write_tensor(datatype, values))
            else:
                contents = [value.encode() if isinstance(value, str) else value for value in values]
                getattr(tensor.contents, _FIELDS[datatype]).extend(contents)
        return response


async def start(service: Service, host: str) -> tuple[grpc.aio.Server, int]:
    """Listen on a free port; returns the server and the port."""
    limit = service.options.max_body_bytes
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([InferenceServicer(service).handlers()])
    port = server.add_insecure_port(f"{host}:0")
    await server.start()
    return server, port


def read_request(request: pb.ModelInferRequest) -> InferCall:
    """What a message says; whose inputs are raw gets raw outputs, as Triton's client expects.

    Raises:
        BadRequest: its tensors are not strings of their shape, or there is an input that the protocol has not.
    """
    inputs, raw = list(request.inputs), list(request.raw_input_contents)
    if raw and (len(raw) != len(inputs) or any(item.HasField("contents") for item in inputs)):
        raise BadRequest("raw_input_contents must hold each input, and no input may have contents beside them")
    columns = {item.name: _strings(item, part) for item, part in zip(inputs, raw or [None] * len(inputs), strict=True)}
    outputs = {output.name: False for output in request.outputs}
    return InferCall(columns, outputs, request.id or None, _top_k(request.parameters), binary=bool(raw))


def _strings(item: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> list[str]:
    require_input(item.name, item.datatype)
    texts = [read_text(one) for one in item.contents.bytes_contents] if raw is None else read_strings(raw)
    return require_shape(item.name, item.shape, texts)


def _top_k(parameters: Mapping[str, pb.InferParameter]) -> int:
    if "top_k" not in parameters:
        return 0
    chosen = parameters["top_k"].WhichOneof("parameter_choice")
    return parse_top_k(getattr(parameters["top_k"], chosen) if chosen else "")


def _headers(context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {item.key: str(item.value) for item in context.invocation_metadata()}


def _handler(kind: type[Request], method: Method[Request]) -> grpc.RpcMethodHandler:
    """A unary method that ends with a status whatever happens: grpc itself would answer UNKNOWN."""

    async def answer(content: bytes, context: grpc.aio.ServicerContext) -> Message:
        try:
            return await method(kind.FromString(content), context)
        except DecodeError:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"the message cannot be read: it is no {kind.__name__}"
            )
        except BadRequest as error:
            code = grpc.StatusCode.NOT_FOUND if error.status == 404 else grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, str(error))
        except Overloaded as error:
            marks = (*(context.trailing_metadata() or ()), (PUSHBACK, "1000"))
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"overloaded: {error}", trailing_metadata=marks)
        except Exception:
            facts = {"prediction_id": _headers(context).get(ID, "")[:80], "path": kind.__name__}
            logger.exception("a request failed", extra=facts)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the model server could not answer")
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(answer, None, lambda message: message.SerializeToString())
