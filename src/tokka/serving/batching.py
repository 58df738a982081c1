"""Micro-batching: requests that wait at the same time share one run of the model.

Greedy: an idle worker runs what it has at once. A busy one, whose last run held several rows, waits up to
`max_delay` for a fuller one. Rows that would wait too long, at the speed of the last runs, are refused at once.
A single row that finds the worker idle runs on the event loop's own thread, where no thread has to be woken. All
others run on the model's thread, one run at a time, and each run is answered as soon as it is done: the runtime
releases the interpreter's lock, so that the last answers are written and the next requests read while it computes.
"""

import asyncio
import contextlib
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Generic, NamedTuple, TypeAlias, TypeVar

SPEEDS = 5

Row = TypeVar("Row")
Result = TypeVar("Result")
# A row with where its answer goes.
Waiting: TypeAlias = tuple[Row, asyncio.Future[Result]]


class Overloaded(RuntimeError):
    """More rows wait than this process can answer soon."""


class Run(NamedTuple, Generic[Row, Result]):
    """What came of one run: a result or an error for each row that was still waited for; `taken` counts the others."""

    waiting: list[Waiting[Row, Result]]
    outcomes: Sequence[Result | Exception]
    seconds: float
    taken: int


class Batcher(Generic[Row, Result]):
    """A queue of rows in front of one model.

    Args:
        run: answers some rows, one result for each, in order; never called twice at the same time.
        max_rows: rows in one run.
        max_delay: seconds that a busy worker waits for a fuller run.
        max_waiting: rows that may wait; more raise `Overloaded`.
        max_wait: seconds of work that may lie before a request; more raises `Overloaded`. A request's own rows do not
            count: an idle worker takes whatever fits into one request.
        clock: seconds from any moment on, never set back: by it runs are timed.
    """

    def __init__(
        self, run: Callable[[list[Row]], Sequence[Result]], *, max_rows: int, max_delay: float,
        max_waiting: int = 1024, max_wait: float = 1.0, clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._run = run
        self._max_rows = max_rows
        self._max_delay = max_delay
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._clock = clock
        # Seconds per row of the last runs: their median, so that a slow run or two, be it the first, refuse nobody.
        self._last_speeds = deque([0.0] * SPEEDS, maxlen=SPEEDS)
        self._unanswered = 0
        # When the model last gave something, or was first asked after it had nothing to do.
        self._last_sign = time.monotonic()
        # Rows that came in this turn of the loop, and those that the model's thread takes.
        self._fresh: list[Waiting[Row, Result]] = []
        self._queue: SimpleQueue[Waiting[Row, Result]] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._thread_works = False
        self._done: deque[Run[Row, Result] | None] = deque()
        self._delivery_is_due = False
        self.runs = 0
        self.rows = 0

    async def submit(self, rows: Sequence[Row]) -> list[Result]:
        """Answer one request's rows in order; raises Overloaded, or what `run` raised for one of these rows."""
        self.require_room(len(rows))
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in rows]
        if not self._fresh:
            loop.call_soon(self._start, loop)
        self._fresh.extend(zip(rows, futures, strict=True))
        if not self._unanswered:
            self._last_sign = time.monotonic()
        self._unanswered += len(rows)
        return [await futures[0]] if len(futures) == 1 else list(await asyncio.gather(*futures))

    def stalled_seconds(self) -> float:
        """How long the model has given nothing to those who wait; 0 when nobody waits."""
        return time.monotonic() - self._last_sign if self._unanswered else 0.0

    def require_room(self, rows: int) -> None:
        """Raise `Overloaded`, as `submit` would, unless so many rows would be taken now."""
        ahead, expected = self._unanswered, self._unanswered * statistics.median(self._last_speeds)
        if ahead and (ahead + rows > self._max_waiting or expected > self._max_wait):
            raise Overloaded(f"{ahead} rows wait already, for about {expected:.1f} s")

    def runs_until_done(self, rows: int) -> int:
        """How many runs of the model it takes to answer so many rows that come now, with those before them."""
        return -(-(self._unanswered + rows) // self._max_rows)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let what came in this turn of the loop run: here, or on the model's thread."""
        fresh, self._fresh = self._fresh, []
        if len(fresh) == 1 and not self._thread_works:
            self._settle(self._answer(fresh))
            return
        for waiting in fresh:
            self._queue.put(waiting)
        self._wake_thread(loop)

    def _wake_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._thread_works and not self._queue.empty():
            self._thread_works = True
            self._thread.submit(self._work, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the model's thread: run after run, until nothing waits."""
        rows = 0
        while taken := self._take(patient=rows > 1):
            rows = len(taken)
            self._hand_over(loop, self._answer(taken))
        self._hand_over(loop, None)

    def _take(self, *, patient: bool) -> list[Waiting[Row, Result]]:
        """Rows for one run; none when nothing waits."""
        taken: list[Waiting[Row, Result]] = []
        until = time.perf_counter() + self._max_delay if patient else 0.0
        while len(taken) < self._max_rows:
            left = until - time.perf_counter() if patient else 0.0
            try:
                taken.append(self._queue.get(left > 0, left if left > 0 else None))
            except Empty:
                break
        return taken

    def _answer(self, taken: "list[Waiting[Row, Result]]") -> "Run[Row, Result]":
        """Run rows whose askers have not hung up."""
        wanted = [waiting for waiting in taken if not waiting[1].done()]
        began = self._clock()
        outcomes = self._outcomes([row for row, _ in wanted]) if wanted else ()
        return Run(wanted, outcomes, self._clock() - began, len(taken))

    def _outcomes(self, rows: list[Row]) -> Sequence[Result | Exception]:
        """One row that the model cannot take must not fail its neighbours: then they run one by one."""
        try:
            return self._run(rows)
        except Exception as error:
            return [error] if len(rows) == 1 else [self._outcomes([row])[0] for row in rows]

    def _hand_over(self, loop: asyncio.AbstractEventLoop, run: "Run[Row, Result] | None") -> None:
        """From the model's thread to the loop, which is woken once for all that is done by then."""
        self._done.append(run)
        if not self._delivery_is_due:
            self._delivery_is_due = True
            # The loop may be closed: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._deliver, loop)

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        self._delivery_is_due = False
        while self._done:
            run = self._done.popleft()
            if run is None:
                self._thread_works = False
                self._wake_thread(loop)
            else:
                self._settle(run)

    def _settle(self, run: "Run[Row, Result]") -> None:
        self._unanswered -= run.taken
        self._last_sign = time.monotonic()
        if not run.waiting:
            return
        self.runs, self.rows = self.runs + 1, self.rows + len(run.waiting)
        self._last_speeds.append(run.seconds / len(run.waiting))
        for (_, future), outcome in zip(run.waiting, run.outcomes, strict=True):
            # Whoever hung up while the model ran has cancelled it.
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
