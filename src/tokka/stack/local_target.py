"""A laptop as a target: the stack's daemon makes it so, and this looks at it from outside.

target = LocalTarget(settings, params)
target.observe()                              # what HAProxy and the workers really do
target.infer(digest, [{"text": "…"}])         # one revision's workers, off the live path
"""

import contextlib
import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tokka.deployment.record.state import State
from tokka.deployment.record.target import Answer, Observed, Question
from tokka.errors import TokkaError
from tokka.gateway.gateway import HOST
from tokka.params import Params
from tokka.serving.service import SHADOW
from tokka.settings import Settings
from tokka.stack.stack import ensure_up, status

TIMEOUT_SECONDS = 30.0
# The daemon speaks every four seconds at least; what it said so long ago may not be so any more.
STALE_SECONDS = 10.0


class LocalTarget:
    """The local stack, as a rollout sees it."""

    def __init__(self, settings: Settings, params: Params) -> None:
        self._settings = settings
        self._params = params

    def apply(self, state: State) -> None:
        """See that the daemon runs: it reads the record by itself, and follows it within a fraction of a second.

        Raises:
            TokkaError: the stack does not start.
        """
        if status(self._settings) is None:
            ensure_up(self._settings, self._params)

    def observe(self) -> Observed:
        """What HAProxy and the workers do now.

        Raises:
            TokkaError: no stack runs, or its daemon is stuck.
        """
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
        )

    def infer(self, digest: str, rows: Sequence[Question]) -> list[Answer]:
        """Ask one revision's workers directly, one row per request; not logged as traffic.

        Raises:
            TokkaError: no worker of this revision is ready, or none could answer.
        """
        info = status(self._settings)
        ports = [worker.port for worker in info.workers if worker.digest == digest and worker.ready] if info else []
        if not ports:
            raise TokkaError(f"no worker of the model {digest[:12]} is ready", "see tokka status")
        shares = [rows[number :: len(ports)] for number in range(len(ports))]
        turns = [[*ports[number:], *ports[:number]] for number in range(len(ports))]
        with ThreadPoolExecutor(max_workers=len(ports)) as pool:
            answers = list(pool.map(_ask_all, turns, shares))
        return [answers[number % len(ports)][number // len(ports)] for number in range(len(rows))]


class _Gone(Exception):
    """The worker broke off: it says nothing about its model."""


def _ask_all(ports: Sequence[int], rows: Sequence[Question]) -> list[Answer]:
    """Ask the first worker; the next one for what it cannot answer, since it was killed or replaced meanwhile.

    Raises:
        TokkaError: none of them can.
    """
    answers: list[Answer] = []
    for port in ports:
        connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(connection), contextlib.suppress(_Gone):
            while len(answers) < len(rows):
                answers.append(_ask(connection, rows[len(answers)]))
    if len(answers) < len(rows):
        raise TokkaError("the workers of the model broke off", "see tokka status")
    return answers


def _ask(connection: http.client.HTTPConnection, row: Question) -> Answer:
    body = json.dumps(dict(row))
    began = time.perf_counter()
    try:
        connection.request("POST", "/predict", body, {SHADOW: "1", "content-type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except TimeoutError:
        connection.close()
        return Answer(error=f"no answer within {TIMEOUT_SECONDS:g} s")
    except (OSError, http.client.HTTPException) as error:
        raise _Gone from error
    except ValueError as error:
        return Answer(error=str(error))
    latency = (time.perf_counter() - began) * 1000
    if response.status != 200:
        return Answer(error=f"{response.status}: {answer.get('error', '')}", latency_ms=latency)
    return Answer(
        label=answer.get("label", ""), value=answer.get("value"), score=answer.get("score"), latency_ms=latency
    )
