"""KServe's model server on addresses of our choice: its own binds 0.0.0.0 and [::] and logs a line per request.

Server(service, listener, grpc_host=None, drain=10).run(on_ready)
"""

import asyncio
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastapi
import kserve
import uvicorn
import uvloop
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from grpc import aio  # type: ignore[import-untyped]
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.rest.server import RESTServer
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
from starlette.exceptions import HTTPException

from tokka.serving.model import GuardedDataPlane, SpecialistModel, TooMuch
from tokka.serving.openapi import DescribedApplication
from tokka.serving.rest import FrontDoor
from tokka.serving.service import Service
from tokka.serving.v2_grpc import MarkingServicer, StatusInterceptor


class Server(kserve.ModelServer):  # type: ignore[misc]
    """One model on one REST listener, and on gRPC if a host for it is given.

    Args:
        service: answers.
        listener: a bound socket for REST.
        grpc_host: address for gRPC, on a free port; None switches it off.
        drain: seconds that running requests have after SIGTERM.
    """

    def __init__(self, service: Service, listener: socket.socket, *, grpc_host: str | None, drain: int) -> None:
        super().__init__(enable_grpc=grpc_host is not None, enable_latency_logging=False, grace_period=drain)
        self.dataplane = GuardedDataPlane(model_registry=self.registered_models)
        self.register_model(SpecialistModel(service))
        self._service = service
        self._listener = listener
        self._grpc_host = grpc_host
        self.grpc_port: int | None = None

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT, and then until what was taken is answered."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(on_ready))

    async def _run(self, on_ready: Callable[[], None]) -> None:
        grpc_server = await self._start_grpc() if self._grpc_host is not None else None
        rest = _Rest(self._service, self.dataplane, self.model_repository_extension, self.grace_period)
        # uvicorn raises the signal that stopped it once more when it is done: by then there is nothing left to do.
        signal.signal(signal.SIGTERM, lambda *_: None)
        await rest.serve(self._listener, on_ready)
        if grpc_server is not None:
            await grpc_server.stop(grace=self.grace_period)

    async def _start_grpc(self) -> aio.Server:
        limit = self._service.options.max_body_bytes
        server = aio.server(
            ThreadPoolExecutor(max_workers=1),
            interceptors=(StatusInterceptor(),),
            options=[("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)],
        )
        servicer = MarkingServicer(self._service, self.dataplane, self.model_repository_extension)
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        self.grpc_port = server.add_insecure_port(f"{self._grpc_host}:0")
        await server.start()
        return server


class _Rest(RESTServer):  # type: ignore[misc]
    """KServe's REST server with the v2 routes only, behind the front door, on a listener that is bound already."""

    def __init__(self, service: Service, dataplane: Any, repository: Any, drain: int) -> None:
        super().__init__(make_application(service, dataplane, repository), dataplane, repository, http_port=0)
        self._service = service
        self._drain = drain
        self.application = self.config.app

    async def serve(self, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        """Answer until a signal comes."""
        self._add_exception_handlers(self.application)
        self.application.add_exception_handler(RequestValidationError, _refuse_invalid)
        self.application.add_exception_handler(TooMuch, _refuse_too_much)
        self.application.add_exception_handler(HTTPException, _refuse_plainly)
        config = uvicorn.Config(
            FrontDoor(self._service, self.application),
            log_config=None, access_log=False, lifespan="off", server_header=False,
            timeout_graceful_shutdown=self._drain, timeout_keep_alive=65,
        )  # fmt: skip
        await _Announcing(config, on_ready).serve(sockets=[listener])


class _Announcing(uvicorn.Server):
    """Says that it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def make_application(service: Service, dataplane: Any, repository: Any) -> fastapi.FastAPI:
    """KServe's routes but v1's: the front door is the plain way in."""
    application = DescribedApplication(title="Tokka", docs_url=None, redoc_url=None, jobs=service.options.jobs)
    register_v2_endpoints(application, dataplane, repository)
    return application


async def _refuse_too_much(_: Any, error: Any) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=422)


async def _refuse_plainly(_: Any, error: Any) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code)


async def _refuse_invalid(_: Any, error: Any) -> JSONResponse:
    """Say where the request is wrong, and repeat nothing of it."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][:6])
    return JSONResponse({"error": f"{place}: {first['msg']}"[:300]}, status_code=400)
