"""Micro-batching: requests that wait at the same time share one run of the model.

    batcher = Batcher(engine.predict, max_rows=16, max_delay=0.002)
    results = await batcher.submit(rows)

Greedy: an idle worker runs what it has at once. A busy one, whose last batch held several requests, waits up to
`max_delay` for a fuller batch. Rows that would wait too long, at the speed of the last batches, are refused at once.
The model runs on the event loop's own thread: one thread per process, and the
answers of a batch go out before the next batch starts.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")


class Overloaded(RuntimeError):
    """More rows wait than this process can answer soon."""


class Batcher(Generic[Row, Result]):
    """A queue of rows in front of one model.

    Args:
        run: answers a batch of rows, one result for each, in order; called on the event loop's thread.
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
        expected = waiting * self._row_seconds
        if waiting and (waiting + rows > self._max_waiting or expected > self._max_wait):
            raise Overloaded(f"{waiting} rows wait already, for about {expected:.1f} s")

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
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
        self._answer(batch)
        self._schedule(asyncio.get_running_loop())

    def _answer(self, batch: list[tuple[Row, asyncio.Future[Result]]]) -> None:
        if not batch:
            return
        self.batches, self.rows = self.batches + 1, self.rows + len(batch)
        began = time.perf_counter()
        try:
            results = self._run([row for row, _ in batch])
        except Exception as error:
            self._blame(batch, error)
            return
        self._learn_speed((time.perf_counter() - began) / len(batch))
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)

    def _learn_speed(self, row_seconds: float) -> None:
        """Follow the last batches' seconds per row; one slow batch alone must not refuse everybody."""
        self._row_seconds = row_seconds if not self._row_seconds else 0.8 * self._row_seconds + 0.2 * row_seconds

    def _blame(self, batch: list[tuple[Row, asyncio.Future[Result]]], error: Exception) -> None:
        """One row that the model cannot take must not fail its neighbours: run them one by one."""
        if len(batch) == 1:
            batch[0][1].set_exception(error)
            return
        for pair in batch:
            self._answer([pair])
