"""A laptop as a target: the stack's daemon makes it so, and this looks at it from outside."""

import contextlib
import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from tokka.deployment.kserve.predictors import ask_row, shadow_client
from tokka.deployment.record.state import State
from tokka.deployment.record.target import Answer, Observed, Question
from tokka.errors import TokkaError
from tokka.gateway.gateway import HOST
from tokka.params import Params
from tokka.processes.stack_key import StackKey
from tokka.serving.service import KEY
from tokka.settings import Settings
from tokka.stack import state_file
from tokka.stack.stack import ensure_up, status

# The daemon speaks every four seconds at least; what it said so long ago may not be so any more.
STALE_SECONDS = 10.0


class LocalTarget:
    """The local stack, as a rollout sees it."""

    def __init__(self, settings: Settings, params: Params) -> None:
        self._settings = settings
        self._params = params

    def apply(self, state: State) -> None:
        """See that the daemon runs, or raise TokkaError: it follows the record by itself, at once."""
        if status(self._settings) is None:
            ensure_up(self._settings, self._params)

    def observe(self) -> Observed:
        """What HAProxy and the workers do now; raises TokkaError when no stack runs, or its daemon is stuck."""
        info = status(self._settings)
        if info is None:
            raise TokkaError("no stack is running", "`tokka up` starts it")
        if info.silent_s > STALE_SECONDS:
            raise TokkaError("the stack's daemon is stuck", "`tokka up` restarts it")
        return Observed(
            generation=info.generation,
            champion=info.champion,
            challenger=info.challenger,
            share=info.share,
            ready=tuple(sorted({worker.digest for worker in info.workers if worker.state == "ready"})),
            problems=problems_of(info.problems),
        )

    def infer(self, digest: str, rows: Sequence[Question]) -> list[Answer]:
        """Ask one revision's workers directly, one row per request; not logged as traffic.

        Raises TokkaError when no worker of this revision is ready, or none could answer.
        """
        info = status(self._settings)
        ports = [worker.port for worker in info.workers if worker.digest == digest and worker.ready] if info else []
        if not ports:
            raise TokkaError(f"no worker of the model {digest[:12]} is ready", "see tokka status")
        turns = [[*ports[number:], *ports[:number]] for number in range(len(ports))]
        key = StackKey.of(state_file.folder(self._settings)).internal
        with shadow_client({KEY: key}) as client, ThreadPoolExecutor(max_workers=len(ports)) as pool:
            return list(pool.map(functools.partial(_ask_any, client), itertools.cycle(turns), rows))


def problems_of(sentences: Sequence[str]) -> dict[str, str]:
    """Version to why its workers do not start, of what the daemon tells people: `version 3: …`."""
    told = [one.removeprefix("version ").partition(": ") for one in sentences if one.startswith("version ")]
    return {version: why for version, _, why in told if version.isdecimal()}


def _ask_any(client: httpx.Client, ports: Sequence[int], row: Question) -> Answer:
    """Ask the first worker; the next one if that was killed or replaced meanwhile, which says nothing of its model."""
    for port in ports:
        with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):
            return ask_row(client, f"http://{HOST}:{port}", row)
    raise TokkaError("the workers of the model broke off", "see tokka status")
