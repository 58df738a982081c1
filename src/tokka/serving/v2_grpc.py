"""The Open Inference Protocol v2 over gRPC; answers and refusals carry as metadata what a REST answer's headers carry.

Prediction id, version and canary stand behind an answer, so that a refusal, which has no message, carries them in its
head; of an answer the gateway makes a head from the message. REST's 400, 413 and 422 are INVALID_ARGUMENT, 404 is
NOT_FOUND, 503 is UNAVAILABLE.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from tokka.serving import open_inference_pb2 as pb
from tokka.serving.batching import Overloaded
from tokka.serving.predict_api import BadRequest, parse_level, parse_top_k
from tokka.serving.service import CANARY, ID, NAMED, SHED, VERSION, Service
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
_CODES = {403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND}
_FIELDS = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "BOOL": "bool_contents"}

Request = TypeVar("Request", bound=Message)
# The second argument is the call: its metadata, and how it ends.
Method = Callable[[Request, grpc.aio.ServicerContext], Message | Awaitable[Message]]


def handlers(service: Service) -> grpc.GenericRpcHandler:
    """The six methods of the protocol for one model; models cannot be loaded or unloaded."""

    def model_ready(request: pb.ModelReadyRequest, _: grpc.aio.ServicerContext) -> Message:
        service.require_served(request.name, request.version)
        return pb.ModelReadyResponse(ready=service.is_ready())

    def model_metadata(request: pb.ModelMetadataRequest, _: grpc.aio.ServicerContext) -> Message:
        service.require_served(request.name, request.version)
        return pb.ModelMetadataResponse(**service.metadata())

    methods: dict[str, tuple[type[Message], Method[Any]]] = {
        "ServerLive": (pb.ServerLiveRequest, lambda *_: pb.ServerLiveResponse(live=True)),
        "ServerReady": (pb.ServerReadyRequest, lambda *_: pb.ServerReadyResponse(ready=service.is_ready())),
        "ServerMetadata": (pb.ServerMetadataRequest, lambda *_: pb.ServerMetadataResponse(**server_metadata())),
        "ModelReady": (pb.ModelReadyRequest, model_ready),
        "ModelMetadata": (pb.ModelMetadataRequest, model_metadata),
        "ModelInfer": (pb.ModelInferRequest, functools.partial(_counted, service)),
    }
    made = {name: _handler(service, *method) for name, method in methods.items()}
    return grpc.method_handlers_generic_handler(SERVICE, made)


async def _counted(service: Service, request: pb.ModelInferRequest, context: grpc.aio.ServicerContext) -> Message:
    """Answer one request, and count it; one that its client gave up is counted nowhere."""
    began, status = time.perf_counter(), 503
    try:
        answer = await _infer(service, request, context)
        status = 200
    except BadRequest as error:
        status = error.status
        raise
    except asyncio.CancelledError:
        status = 0
        raise
    finally:
        if status:
            service.count(service.context(_headers(context)), status, time.perf_counter() - began)
    return answer


async def _infer(service: Service, request: pb.ModelInferRequest, context: grpc.aio.ServicerContext) -> Message:
    """Answer one request; the head is sent with the answer only, so that a refusal's status stands in its head.

    What a version was named for is said in the head, where the gateway reads it.
    """
    asked = service.context(_headers(context))
    canary = service.is_canary(asked)
    marks = ((ID, asked.request_id), (VERSION, service.options.version), (CANARY, str(int(canary))))
    named = ((NAMED, "1"),) if request.model_version else ()
    context.set_trailing_metadata((*marks, *named))
    service.require_served(request.model_name, request.model_version)
    call = read_request(request)
    tensors, answers = await service.infer(call, asked)
    if named:
        await context.send_initial_metadata(named)
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


async def start(service: Service, host: str, port: int = 0) -> tuple[grpc.aio.Server, int]:
    """Listen, on a free port unless one is given; returns the server and the port."""
    limit = service.options.max_body_bytes
    given: list[tuple[str, int]] = [("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)]
    if drain_s := service.options.drain_s:
        # A connection ends, in order, within the drain time: the next one is opened where a balancer says.
        given.append(("grpc.max_connection_age_ms", int(drain_s * 500)))
    server = grpc.aio.server(options=given)
    server.add_generic_rpc_handlers([handlers(service)])
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server, bound


def read_request(request: pb.ModelInferRequest) -> InferCall:
    """What a message says; whose inputs are raw gets raw outputs, as Triton's client expects.

    Raises BadRequest for tensors that are not strings of their shape, and an input that the protocol has not.
    """
    inputs, raw = list(request.inputs), list(request.raw_input_contents)
    if raw and (len(raw) != len(inputs) or any(item.HasField("contents") for item in inputs)):
        raise BadRequest("raw_input_contents must hold each input, and no input may have contents beside them")
    columns = {item.name: _strings(item, part) for item, part in zip(inputs, raw or [None] * len(inputs), strict=True)}
    outputs = {output.name: False for output in request.outputs}
    top_k, level = (_parameter(request.parameters, name) for name in ("top_k", "level"))
    return InferCall(columns, outputs, request.id or None, parse_top_k(top_k), bool(raw), parse_level(_number(level)))


def _strings(item: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> list[str]:
    require_input(item.name, item.datatype)
    texts = [read_text(one) for one in item.contents.bytes_contents] if raw is None else read_strings(raw)
    return require_shape(item.name, item.shape, texts)


def _number(value: object) -> object:
    """What a text says of a number: KServe's own client has no parameter for one with a fraction."""
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def _parameter(parameters: Mapping[str, pb.InferParameter], name: str) -> object:
    """A parameter's value; None when it is not there, an empty text when it holds none."""
    if name not in parameters:
        return None
    chosen = parameters[name].WhichOneof("parameter_choice")
    return getattr(parameters[name], chosen) if chosen else ""


def _headers(context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {item.key: str(item.value) for item in context.invocation_metadata()}


def _handler(service: Service, kind: type[Request], method: Method[Request]) -> grpc.RpcMethodHandler:
    """A unary method that ends with a status whatever happens: grpc itself would answer UNKNOWN."""

    async def answer(content: bytes, context: grpc.aio.ServicerContext) -> Message:
        try:
            service.require_gateway(_headers(context))
            found = method(kind.FromString(content), context)
            return await found if isinstance(found, Awaitable) else found
        except DecodeError:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"the message cannot be read: it is no {kind.__name__}"
            )
        except BadRequest as error:
            await context.abort(_CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), str(error))
        except Overloaded as error:
            marks = (*(context.trailing_metadata() or ()), (PUSHBACK, "1000"), (SHED, "1"))
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"overloaded: {error}", trailing_metadata=marks)
        except Exception:
            facts = {"prediction_id": _headers(context).get(ID, "")[:80], "path": kind.__name__}
            logger.exception("a request failed", extra=facts)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the model server could not answer")
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(answer, None, lambda message: message.SerializeToString())
