"""One revision's answers: rows in, predictions out, each logged with what the gateway said about its request."""

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokka.processes.stack_key import StackKey
from tokka.request_log.log import Writer
from tokka.request_log.shipping import ShippingMetrics
from tokka.serving.batching import Batcher
from tokka.serving.engine import Engine, Prepared, Result, Row
from tokka.serving.options import WorkerOptions
from tokka.serving.predict_api import Answer, BadRequest, require_classes, require_few_tokens
from tokka.serving.v2_json import INPUTS, InferCall, ModelMetadata, describe_tensors, output_types

if TYPE_CHECKING:
    from tokka.gateway.live_traffic import RequestMetrics

logger = logging.getLogger("tokka.serving")

# The gateway strips a client's own copies of these and sets them; only `replayed` is the client's to say.
ID, SHARE, CANARY, CHAMPION = "x-request-id", "x-tokka-share", "x-tokka-canary", "x-tokka-champion"
REPLAYED, SHADOW, VERSION = "x-tokka-replayed", "x-tokka-shadow", "x-tokka-version"
KEY, CLIENT, TRUSTED = "x-tokka-key", "x-tokka-client", "x-tokka-trusted"
# Of a cluster's authorizer: that it has said of the client what the two headers before this say.
VOUCHED = "x-tokka-vouched"
# On an answer: the request named a version; it was refused since too much waits.
NAMED, SHED = "x-tokka-named", "x-tokka-shed"
# Of an answer to a health check: how many answers of this worker the request log could not take.
UNLOGGED = "x-tokka-unlogged"
# By then the gateway has answered in its place (its timeout for a server): nobody waits for what may still come.
STALLED_SECONDS = 60.0
# After the drain time nobody has asked for so long when it ends; who still asks then is waited for no longer than that.
QUIET_SECONDS, LONGEST_QUIET_SECONDS = 1.0, 10.0


@dataclass(frozen=True)
class Context:
    """What the gateway's headers say about one request.

    Args:
        request_id: the prediction id, or its stem when the request has several rows.
        champion: the champion at that moment, as `VERSION@DIGEST`; empty when no gateway was passed.
        share: the challenger's part of live traffic at that moment, in [0, 1].
        assigned: whether the split sent the request to the challenger.
        replayed: traffic that the pipeline itself replays.
        shadow: asked off the live path; not logged.
    """

    request_id: str
    champion: str = ""
    share: float = 0.0
    assigned: bool = False
    replayed: bool = False
    shadow: bool = False

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> "Context":
        """Read the headers (lower-case names); what is missing or malformed counts as absent."""
        try:
            share = min(max(float(headers.get(SHARE, "0")), 0.0), 1.0)
        except ValueError:
            share = 0.0
        return cls(
            request_id=headers.get(ID, "")[:80] or uuid.uuid4().hex,
            champion=headers.get(CHAMPION, ""),
            share=share,
            assigned=headers.get(CANARY) == "1",
            replayed=headers.get(REPLAYED) == "1",
            shadow=headers.get(SHADOW) == "1",
        )


class Service:
    """The engine behind its batcher, and the log beside it."""

    def __init__(self, engine: Engine, options: WorkerOptions, writer: Writer | None) -> None:
        self.engine, self.options = engine, options
        self._revision = f"{options.version}@{engine.digest}"
        self._writer, self._log_works, self.unlogged = writer, True, 0
        self._is_pod = options.metrics
        self.draining, self._asked = False, 0.0
        self.metrics = _count_requests() if options.metrics else None
        self._shipping: ShippingMetrics | None = None
        if self.metrics and options.requests and options.archive:
            self._shipping = ShippingMetrics(options.requests)
            self.metrics.registry.register(self._shipping)
        self._stack_key = StackKey.read(options.stack_key) if options.stack_key else None
        self._pod_key = StackKey.read(options.pod_key, mounted=True) if options.pod_key else None
        self._batcher: Batcher[Prepared, Result] = Batcher(
            engine.predict, max_rows=engine.rows_per_run(options.batch), max_delay=options.max_delay_ms / 1000
        )

    def require_gateway(self, headers: Mapping[str, str]) -> None:
        """Raise BadRequest (403) for a request that has not come through the gateway, if this worker has one."""
        if self._stack_key is not None and not self._stack_key.opens(headers.get(KEY, "")):
            raise BadRequest("ask the gateway: a worker answers nobody else", 403)

    def context(self, headers: Mapping[str, str]) -> Context:
        """What a request's headers say; in a pod nothing but the shadow's mark, since its gateway sets none of them."""
        if not self._is_pod:
            return Context.from_headers(headers)
        name = str(uuid.uuid4())
        return Context(self._pod_key.issue(name) if self._pod_key else name, shadow=headers.get(SHADOW) == "1")

    def is_canary(self, context: Context) -> bool:
        """Whether an answer of this worker is a challenger's: by what it serves, not by where the request was sent.

        The champion's workers are backups of the challenger's, so a request assigned to the challenger may end here.
        """
        return bool(context.champion) and context.champion != self._revision

    def count(self, context: Context, status: int, seconds: float) -> None:
        """Count a request for a prediction by the HTTP status of its answer, unless it was off the live path."""
        if self.metrics is not None and not context.shadow:
            self.metrics.count(self.options.version, "predict", status, seconds)

    def is_well(self) -> bool:
        """Whether the model still answers: a run that never ends leaves the rest of the process as lively as ever."""
        return self._batcher.stalled_seconds() < STALLED_SECONDS

    def is_ready(self) -> bool:
        """Whether requests should be sent here: no more after SIGTERM, nor while the model gives no answer."""
        return self.is_well() and not self.draining

    async def drain(self) -> None:
        """Say from now on that this worker is not ready; until the drain time has passed and nobody asks any more."""
        self.draining = True
        if not (seconds := self.options.drain_s):
            return
        await asyncio.sleep(seconds)
        latest = time.monotonic() + LONGEST_QUIET_SECONDS
        while (now := time.monotonic()) < latest and now - self._asked < QUIET_SECONDS:
            await asyncio.sleep(QUIET_SECONDS / 10)

    def require_served(self, name: str, version: str) -> None:
        """Raise BadRequest (404) unless a request is for this model, in this version or in none."""
        served = self.options
        if name != served.name:
            raise BadRequest(f"model {name[:40]!r} is not served here: {served.name} is", 404)
        if version not in ("", served.version):
            words = f"version {version[:40]!r} of {name} is not served here: version {served.version} is"
            raise BadRequest(words, 404)

    def metadata(self) -> ModelMetadata:
        """What the model takes and gives, as the v2 protocol has it."""
        inputs = dict.fromkeys(INPUTS if self.engine.pairs else INPUTS[:1], "BYTES")
        return {
            "name": self.options.name, "versions": [self.options.version], "platform": "",
            "inputs": describe_tensors(inputs), "outputs": describe_tensors(output_types(self.engine.task)),
        }  # fmt: skip

    async def infer(self, call: InferCall, context: Context) -> tuple[dict[str, str], list[Answer]]:
        """The answers to a request of the v2 protocol, and the tensors that are wanted of them as {name: datatype}.

        Raises as `InferCall.tensors`, `make_rows` and `answer` do.
        """
        tensors = call.tensors(self.engine.task, threshold=self.options.threshold)
        return tensors, await self.answer(call.rows(self.options.max_rows, self.engine.pairs), context)

    async def answer(self, rows: Sequence[Row], context: Context) -> list[Answer]:
        """Predictions for rows, in order: prediction_id, model_version, canary, label and score, or value.

        A row that wants classes named gets `top` too: [{"label", "score"}, …], the most probable first; all there are
        when they are fewer; with a threshold `unsure`, and `set` where a level is asked for. Raises BadRequest for too
        many tokens, or for what `require_classes` refuses; Overloaded when too much waits already.
        """
        self._asked = time.monotonic()
        require_classes(rows, self.engine.task, tuple(self.engine.limits))
        self._batcher.require_room(len(rows))
        require_few_tokens(rows, self.engine.count_tokens, self.options.max_tokens)
        runs, began = self._batcher.runs_until_done(len(rows)), time.perf_counter()
        results = await self._batcher.submit(self.engine.prepare(rows))
        latency = (time.perf_counter() - began) * 1000
        canary = self.is_canary(context)
        names = [context.request_id] if len(rows) == 1 else [f"{context.request_id}.{i}" for i in range(len(rows))]
        answers = [self._answer(name, result, canary) for name, result in zip(names, results, strict=True)]
        if not context.shadow:
            self._log([self._record(context, latency, runs, *row) for row in zip(answers, results, rows, strict=True)])
        return answers

    def _log(self, records: list[dict[str, object]]) -> None:
        """Append; a full disk costs the records and not the answers: it is said once, and each is counted."""
        if self._writer is None:
            return
        try:
            self._writer.append(records)
            self._log_works = True
        except OSError as error:
            if self._log_works:
                logger.warning("the request log cannot be written, answers go out unlogged: %s", error)
            self._log_works = False
            self.unlogged += len(records)

    def record_feedback(self, feedback: Mapping[str, object], headers: Mapping[str, str]) -> None:
        """Log the truth about an earlier prediction, and who says it; BadRequest (404) for one that was never asked.

        Without a key it is joined with its prediction, or none, when the log is read. In a pod that logs nothing: 503.
        """
        key = self._stack_key or self._pod_key
        if key is not None and not key.issued(str(feedback["prediction_id"])):
            raise BadRequest("there is no prediction with this id", 404)
        if self._writer is None and self._is_pod:
            raise BadRequest("this endpoint keeps no feedback: its pods have no TOKKA_ARCHIVE in S3", 503)
        if self._writer is not None:
            self._writer.append([{"kind": "feedback", "time": time.time(), **self._caller(headers), **feedback}])

    def _caller(self, headers: Mapping[str, str]) -> dict[str, object]:
        """Who gives feedback, as far as known; in a pod all whom the authorizer does not name are one caller."""
        client, trusted = headers.get(CLIENT, ""), headers.get(TRUSTED) == "1"
        if self._is_pod:
            told, key = headers.get(VOUCHED, ""), self._pod_key
            known = key is not None and key.vouches(told, client, trusted, time.time())
            return {"client": client, "trusted": trusted} if known else {"client": "", "trusted": False}
        return {"client": client, "trusted": trusted} if self._stack_key is not None else {}

    def exposition(self) -> bytes:
        """The page /metrics of a pod."""
        if self._shipping is not None:
            self._shipping.unlogged = self.unlogged
        return self.metrics.exposition() if self.metrics else b""

    def close(self) -> None:
        """Nothing is logged any more."""
        if self._writer is not None:
            self._writer.close()

    def _answer(self, name: str, result: Result, canary: bool) -> Answer:
        answer: Answer = {"prediction_id": name, "model_version": self.options.version, "canary": canary}
        if result.value is not None:
            return {**answer, "value": result.value}
        answer |= {"label": result.label, "score": result.score or 0.0}
        if result.top:
            answer["top"] = [{"label": label, "score": score} for label, score in result.top]
        if self.options.threshold:
            answer["unsure"] = (result.score or 0.0) < self.options.threshold
        if result.members:
            answer["set"] = list(result.members)
        return answer

    def _record(
        self, context: Context, latency: float, runs: int, answer: Answer, result: Result, row: Row
    ) -> dict[str, object]:  # fmt: skip
        record: dict[str, object] = {
            "kind": "prediction", "time": time.time(), "version": self.options.version, "digest": self.engine.digest,
            "share": context.share, "assigned": context.assigned, "replayed": context.replayed,
            "latency_ms": round(latency, 3), "prediction_id": answer["prediction_id"], "canary": answer["canary"],
            "label": result.label, "score": result.score, "length": result.length, "unknown": result.unknown,
            "runs": runs,
        }  # fmt: skip
        if result.value is not None:
            record["value"] = result.value
        if self.options.store_text:
            record["text"] = row.text
            if row.pair is not None:
                record["text_pair"] = row.pair
        return record


def _count_requests() -> "RequestMetrics":
    """Counters of this process; imported here, since a worker behind our own gateway counts nothing."""
    from prometheus_client import CollectorRegistry

    from tokka.gateway.live_traffic import RequestMetrics

    return RequestMetrics(CollectorRegistry())
