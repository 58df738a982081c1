"""One revision's answers: rows in, predictions out, each logged with what the gateway said about its request.

service = Service(engine, options, writer)
predictions = await service.answer(inputs.rows, context)
"""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tokka.request_log.log import Writer
from tokka.serving.batching import Batcher
from tokka.serving.engine import Engine, Prepared, Result, Row
from tokka.serving.options import WorkerOptions
from tokka.serving.predict_api import Answer, BadRequest, require_classes, require_few_tokens
from tokka.serving.v2_json import INPUTS, InferCall, ModelMetadata, describe_tensors, output_types

logger = logging.getLogger("tokka.serving")

# The gateway strips a client's own copies of these and sets them; only `replayed` is the client's to say.
ID, SHARE, CANARY, CHAMPION = "x-request-id", "x-tokka-share", "x-tokka-canary", "x-tokka-champion"
REPLAYED, SHADOW, VERSION = "x-tokka-replayed", "x-tokka-shadow", "x-tokka-version"
# By then the gateway has answered in its place (its timeout for a server): nobody waits for what may still come.
STALLED_SECONDS = 60.0
# One line of the request log.
Record: TypeAlias = dict[str, object]


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
        self.engine = engine
        self.options = options
        self._revision = f"{options.version}@{engine.digest}"
        self._writer = writer
        self._log_works = True
        self._batcher: Batcher[Prepared, Result] = Batcher(
            engine.predict, max_rows=engine.rows_per_run(options.batch), max_delay=options.max_delay_ms / 1000
        )

    def is_canary(self, context: Context) -> bool:
        """Whether an answer of this worker is a challenger's: by what it serves, not by where the request was sent.

        The champion's workers are backups of the challenger's, so a request assigned to the challenger may end here.
        """
        return bool(context.champion) and context.champion != self._revision

    def is_well(self) -> bool:
        """Whether the model still answers: a run that never ends leaves the rest of the process as lively as ever."""
        return self._batcher.stalled_seconds() < STALLED_SECONDS

    def require_served(self, name: str, version: str) -> None:
        """See that a request is for this model, in this version or in none.

        Raises:
            BadRequest: 404, it is not.
        """
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

        Raises:
            BadRequest: an output is asked for that there is not, or see `make_rows` and `answer`.
            Overloaded: too much waits already.
        """
        tensors = call.tensors(self.engine.task)
        return tensors, await self.answer(call.rows(self.options.max_rows, self.engine.pairs), context)

    async def answer(self, rows: Sequence[Row], context: Context) -> list[Answer]:
        """Predictions for rows, in order: prediction_id, model_version, canary, label and score, or value.

        A row that wants classes named gets `top` too: [{"label", "score"}, …], the most probable first; all there are
        when they are fewer.

        Raises:
            BadRequest: the rows have more tokens than one request may, or want classes of a regression.
            Overloaded: too much waits already.
        """
        require_classes(rows, self.engine.task)
        self._batcher.require_room(len(rows))
        require_few_tokens(rows, self.engine.count_tokens, self.options.max_tokens)
        began = time.perf_counter()
        results = await self._batcher.submit(self.engine.prepare(rows))
        latency = (time.perf_counter() - began) * 1000
        canary = self.is_canary(context)
        names = [context.request_id] if len(rows) == 1 else [f"{context.request_id}.{i}" for i in range(len(rows))]
        answers = [self._answer(name, result, canary) for name, result in zip(names, results, strict=True)]
        if not context.shadow:
            facts = self._facts(context, latency)
            self._log([self._record(facts, *row) for row in zip(answers, results, rows, strict=True)])
        return answers

    def _log(self, records: list[Record]) -> None:
        """Append; a full disk costs the records and not the answers, and is said once."""
        if self._writer is None:
            return
        try:
            self._writer.append(records)
            self._log_works = True
        except OSError as error:
            if self._log_works:
                logger.warning("the request log cannot be written, answers go out unlogged: %s", error)
            self._log_works = False

    def record_feedback(self, feedback: Mapping[str, object]) -> None:
        """Log the truth about an earlier prediction."""
        if self._writer is not None:
            self._writer.append([{"kind": "feedback", "time": time.time(), **feedback}])

    def _answer(self, name: str, result: Result, canary: bool) -> Answer:
        answer: Answer = {"prediction_id": name, "model_version": self.options.version, "canary": canary}
        if result.value is not None:
            return {**answer, "value": result.value}
        answer |= {"label": result.label, "score": result.score or 0.0}
        if result.top:
            answer["top"] = [{"label": label, "score": score} for label, score in result.top]
        return answer

    def _facts(self, context: Context, latency: float) -> Record:
        return {
            "kind": "prediction", "time": time.time(), "version": self.options.version, "digest": self.engine.digest,
            "share": context.share, "assigned": context.assigned, "replayed": context.replayed,
            "latency_ms": round(latency, 3),
        }  # fmt: skip

    def _record(self, facts: Record, answer: Answer, result: Result, row: Row) -> Record:
        record = {
            **facts, "prediction_id": answer["prediction_id"], "canary": answer["canary"], "label": result.label,
            "score": result.score, "length": result.length, "unknown": result.unknown,
        }  # fmt: skip
        if result.value is not None:
            record["value"] = result.value
        if self.options.store_text:
            record["text"] = row.text
            if row.pair is not None:
                record["text_pair"] = row.pair
        return record
