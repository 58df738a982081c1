"""KServe's gRPC service, whose answers carry in their head what a REST answer's headers carry.

servicer = MarkingServicer(service, dataplane, repository)
"""

from typing import Any

from grpc import StatusCode  # type: ignore[import-untyped]
from kserve.protocol.grpc.servicer import InferenceServicer

from tokka.serving.service import CANARY, ID, VERSION, Context, Service


class MarkingServicer(InferenceServicer):  # type: ignore[misc]
    """Prediction id, version and canary as metadata; models cannot be loaded or unloaded."""

    def __init__(self, service: Service, dataplane: Any, repository: Any) -> None:
        super().__init__(dataplane, repository)
        self._service = service

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer one request; the head is sent with the answer only, so that a refusal's status stands in its head."""
        answer = await super().ModelInfer(request, context)
        asked = Context.from_headers({item.key: str(item.value) for item in context.invocation_metadata()})
        marks = {VERSION: self._service.options.version, CANARY: str(int(self._service.is_canary(asked)))}
        await context.send_initial_metadata(((ID, asked.request_id), *marks.items()))
        return answer

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse: what serves is the deployment record's to say."""
        await context.abort(StatusCode.UNIMPLEMENTED, "models are deployed by the deployment record alone")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse, as for loading."""
        await context.abort(StatusCode.UNIMPLEMENTED, "models are deployed by the deployment record alone")
