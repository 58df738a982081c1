"""Micro-batching: requests that wait at the same time share one run of the model.

    batcher = Batcher(engine.predict, max_rows=16, max_delay=0.002)
    results = await batcher.submit(rows)

Greedy: an idle worker runs what it has at once. A busy one, whose last batch held several requests, waits up to
`max_delay` for a fuller batch. Rows that would wait too long, at the speed of the last batches, are refused at once.
A single row runs on the event loop's own thread, where no thread has to be woken. Several rows run on the model's
thread, one batch at a time: the runtime releases the interpreter's lock, so that the next requests are read, and the
last answers written, while it computes.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeAlias, TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")
# Rows with where their answers go.
Batch: TypeAlias = list[tuple[Row, asyncio.Future[Result]]]


class Overloaded(RuntimeError):
    """More rows wait than this process can answer soon."""


class Batcher(Generic[Row, Result]):
    """A queue of rows in front of one model.

    Args:
        run: answers a batch of rows, one result for each, in order; never called twice at the same time.
        max_rows: rows in one batch.
        max_delay: seconds that a busy worker waits for a fuller batch.
        max_waiting: rows that may wait; more raise `Overloaded`.
        max_wait: seconds of work that may lie before a request; more raises `Overloaded`. A request's own rows do not
            count: an idle worker takes whatever fits into one request.
    """

    def __init__(
        self, run: Callable[[list[Row]], Sequence[Result]], *, max_rows: int, max_delay: float,
        max_waiting: int = 1024, max_wait: float = 1.0,
    ) -> None:  # fmt: skip
        self._run = run
        self._max_rows = max_rows
        self._max_delay = max_delay
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._row_seconds = 0.0
        self._waiting: deque[tuple[Row, asyncio.Future[Result]]] = deque()
        self._timer: asyncio.Handle | None = None
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._running: asyncio.Task[None] | None = None
        self._rows_running = 0
        self.batches = 0
        self.rows = 0

    async def submit(self, rows: Sequence[Row]) -> list[Result]:
        """Answer the rows of one request, in order.

        Raises:
            Overloaded: the queue is full, or takes longer than `max_wait`.
            Exception: what `run` raised for one of these very rows.
        """
        self._refuse_what_would_wait(len(rows))
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in rows]
        self._waiting.extend(zip(rows, futures, strict=True))
        self._schedule(loop)
        return list(await asyncio.gather(*futures))

    def _refuse_what_would_wait(self, rows: int) -> None:
        waiting = len(self._waiting)
        expected = (waiting + self._rows_running) * self._row_seconds
        if waiting and (waiting + rows > self._max_waiting or expected > self._max_wait):
            raise Overloaded(f"{waiting} rows wait already, for about {expected:.1f} s")

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._running is not None:
            return
        full = len(self._waiting) >= self._max_rows
        if self._timer is not None and full:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._waiting:
            wait = self._max_delay if self._busy and not full else 0.0
            self._timer = loop.call_later(wait, self._flush) if wait else loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        taken = [self._waiting.popleft() for _ in range(min(self._max_rows, len(self._waiting)))]
        batch = [(row, future) for row, future in taken if not future.done()]
        self._busy = len(batch) > 1
        loop = asyncio.get_running_loop()
        if self._busy:
            self._running, self._rows_running = loop.create_task(self._answer_aside(batch)), len(batch)
            return
        self._answer(batch, partial(self._timed, [row for row, _ in batch]))
        self._schedule(loop)

    async def _answer_aside(self, batch: Batch[Row, Result]) -> None:
        loop = asyncio.get_running_loop()
        doing = loop.run_in_executor(self._thread, self._timed, [row for row, _ in batch])
        await asyncio.wait([doing])
        self._running, self._rows_running = None, 0
        self._answer(batch, doing.result)
        self._schedule(loop)

    def _timed(self, rows: list[Row]) -> tuple[Sequence[Result], float]:
        began = time.perf_counter()
        results = self._run(rows)
        return results, time.perf_counter() - began

    def _answer(self, batch: Batch[Row, Result], outcome: Callable[[], tuple[Sequence[Result], float]]) -> None:
        if not batch:
            return
        self.batches, self.rows = self.batches + 1, self.rows + len(batch)
        try:
            results, seconds = outcome()
        except Exception as error:
            self._blame(batch, error)
            return
        self._learn_speed(seconds / len(batch))
        for (_, future), result in zip(batch, results, strict=True):
            # Whoever hung up while the model ran has cancelled it.
            if not future.done():
                future.set_result(result)

    def _learn_speed(self, row_seconds: float) -> None:
        """Follow the last batches' seconds per row; one slow batch alone must not refuse everybody."""
        self._row_seconds = row_seconds if not self._row_seconds else 0.8 * self._row_seconds + 0.2 * row_seconds

    def _blame(self, batch: Batch[Row, Result], error: Exception) -> None:
        """One row that the model cannot take must not fail its neighbours: run them one by one."""
        if len(batch) == 1:
            if not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for pair in batch:
            self._answer([pair], partial(self._timed, [pair[0]]))
