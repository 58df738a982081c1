"""What a worker is told when it is started: one JSON argument."""

import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tokka.errors import UsageError
from tokka.model.folder import Form
from tokka.objects import is_remote
from tokka.processes.process import SINGLE_THREAD
from tokka.registry.model_uri import ModelUri
from tokka.request_log import archive
from tokka.settings import Settings

MODULE = "tokka.serving.server"
MODEL_URI, TOLD, POD_KEY = "TOKKA_MODEL_URI", "TOKKA_SERVING", "TOKKA_POD_KEY"
# For a worker's environment. Pydantic would look for plugins in the metadata of every installed package.
ENVIRONMENT = {**SINGLE_THREAD, "PYDANTIC_DISABLE_PLUGINS": "__all__"}


class Told(BaseModel):
    """What params.yaml says to every worker, on a laptop and in a pod.

    Args:
        batch: rows in one run of the model.
        max_delay_ms: milliseconds that a busy worker waits for a fuller batch.
        max_body_bytes: larger bodies are refused with 413; more rows or tokens than the next two with 422.
        threshold: an answer of a lower score is marked as unsure; 0 marks none.
        store_text: whether the request log holds the texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = 16
    max_delay_ms: float = 2.0
    max_body_bytes: int = 1_000_000
    max_rows: int = 256
    max_tokens: int = 16_384
    threshold: float = 0.0
    store_text: bool = False


class WorkerOptions(Told):
    """One worker: one model folder, one revision; beside what it is told as every other one.

    Args:
        ready_file: written when the worker listens (ports, digest, seconds), or when it cannot (error, hint); or None.
        host: address to listen on.
        port: for REST; 0 lets the kernel choose, as it does for grpc_port.
        name: of the model in the v2 protocol.
        version: registry version, repeated in every answer.
        digest: a folder with another digest is refused; empty accepts any.
        form: of the model; None takes the one that its configuration names.
        signed: a folder without a good signature is refused.
        requests: folder of the request log; None writes none.
        archive: address to which the log is copied, since the folder goes with the pod; empty: it stays where it is.
        metrics: whether requests are counted, for Prometheus at /metrics; behind a gateway of ours, that counts them.
        stack_key: file with the stack's secret: only who knows it may ask, but for the health; None lets anybody.
        jobs: whether the OpenAPI description has the routes for requests that can wait.
        pod_key: file with a secret that an endpoint's pods and its authorizer share: prediction ids carry a code, and
            who gives feedback is believed; None lets any id pass, and takes all who ask for one caller.
        drain_s: seconds after SIGTERM in which it says that it is not ready, and goes on answering.
    """

    model_dir: Path
    ready_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    grpc_port: int = 0
    name: str = "model"
    version: str = "0"
    digest: str = ""
    form: Form | None = None
    signed: bool = False
    requests: Path | None = None
    archive: str = ""
    metrics: bool = False
    jobs: bool = False
    drain_s: float = 0.0
    stack_key: Path | None = None
    pod_key: Path | None = None


def command(options: WorkerOptions) -> list[str]:
    """The command line of a worker, to be started with `ENVIRONMENT`."""
    return [sys.executable, "-P", "-m", MODULE, options.model_dump_json(exclude_defaults=True)]


def in_pod(options: WorkerOptions, environment: Mapping[str, str]) -> WorkerOptions:
    """The options of a predictor's pod: KServe says by TOKKA_MODEL_URI which model that is; else as they are.

    The reconciler adds by TOKKA_SERVING what params.yaml says of serving (`Told`). UsageError when one of both is none.
    """
    uri = environment.get(MODEL_URI)
    if not uri:
        return options
    found = ModelUri.parse(uri)
    told: dict[str, object] = {"name": found.endpoint, "version": found.version, "digest": found.digest}
    told |= {"signed": True, "metrics": True, **_log_of(found, environment)}
    try:
        more = Told.model_validate_json(environment.get(TOLD) or "{}").model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ".".join(map(str, first["loc"])) or "it"
        hint = "the reconciler writes it: use the images of one release"
        raise UsageError(f"{TOLD}: {what}: {first['msg']}", hint) from None
    return options.model_copy(update={**more, **told})


def _log_of(model: ModelUri, environment: Mapping[str, str]) -> dict[str, object]:
    """Where a pod logs: nowhere, unless there is an archive in S3 to copy it to."""
    settings, key = Settings.from_environment(environment), environment.get(POD_KEY)
    shared = {"pod_key": Path(key)} if key and Path(key).is_file() else {}
    if not is_remote(settings.archive):
        return {**shared}
    address = archive.of_endpoint(settings, model.endpoint, model.version)
    return {**shared, "requests": settings.home / archive.FOLDER, "archive": address}
