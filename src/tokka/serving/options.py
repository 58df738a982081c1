"""What a worker is told when it is started: one JSON argument.

subprocess.Popen(command(WorkerOptions(model_dir=folder, version="3", ready_file=file)))
"""

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tokka.model.folder import Form
from tokka.processes.process import SINGLE_THREAD

MODULE = "tokka.serving.server"
# For a worker's environment. Pydantic would look for plugins in the metadata of every installed package.
ENVIRONMENT = {**SINGLE_THREAD, "PYDANTIC_DISABLE_PLUGINS": "__all__"}


class WorkerOptions(BaseModel):
    """One worker: one model folder, one revision.

    Args:
        model_dir: the model folder.
        ready_file: written when the worker listens (ports, digest, seconds), or when it cannot (error, hint).
        name: of the model in the v2 protocol.
        version: registry version, repeated in every answer.
        digest: a folder with another digest is refused; empty accepts any.
        form: of the model; None takes the one that its configuration names.
        signed: a folder without a good signature is refused.
        requests: folder of the request log; None writes none.
        batch: rows in one run of the model.
        max_delay_ms: milliseconds that a busy worker waits for a fuller batch.
        max_body_bytes: larger bodies are refused with 413.
        max_rows: more rows in one request are refused with 422.
        max_tokens: more tokens in one request are refused with 422.
        store_text: whether the request log holds the texts.
        jobs: whether the OpenAPI description has the routes for requests that can wait.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_dir: Path
    ready_file: Path
    name: str = "model"
    version: str = "0"
    digest: str = ""
    form: Form | None = None
    signed: bool = False
    requests: Path | None = None
    batch: int = 16
    max_delay_ms: float = 2.0
    max_body_bytes: int = 1_000_000
    max_rows: int = 256
    max_tokens: int = 16_384
    store_text: bool = False
    jobs: bool = False


def command(options: WorkerOptions) -> list[str]:
    """The command line of a worker, to be started with `ENVIRONMENT`."""
    return [sys.executable, "-P", "-m", MODULE, options.model_dump_json(exclude_defaults=True)]
