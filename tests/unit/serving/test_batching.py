"""Micro-batching: greedy when idle, fuller when busy, and one bad row is nobody else's."""

import asyncio
import threading

import pytest

from tests.fixtures.waiting import LIMIT_S, until
from tokka.serving.batching import Batcher, Overloaded


def run(scenario):
    return asyncio.run(scenario)


class Slow:
    """A model for which rows take time by its own clock, and none by any other."""

    def __init__(self, seconds=0.0, seconds_each=0.0):
        self.now, self._seconds, self._seconds_each = 0.0, seconds, seconds_each

    def __call__(self, rows):
        self.now += self._seconds + self._seconds_each * len(rows)
        return rows

    def clock(self):
        return self.now


def test_an_idle_worker_does_not_wait():
    async def scenario():
        batcher = Batcher(lambda rows: rows, max_rows=16, max_delay=10.0)
        return await asyncio.wait_for(batcher.submit([1, 2]), 10.0)

    assert run(scenario()) == [1, 2]


def test_what_waits_together_runs_together_in_order():
    seen = []

    async def scenario():
        batcher = Batcher(lambda rows: seen.append(list(rows)) or [row * 10 for row in rows], max_rows=4, max_delay=0.0)
        return await asyncio.gather(*(batcher.submit([number, number + 100]) for number in range(3)))

    assert run(scenario()) == [[0, 1000], [10, 1010], [20, 1020]]
    assert [len(batch) for batch in seen] == [4, 2]


def test_a_busy_worker_waits_for_a_fuller_batch_but_not_longer_than_allowed():
    seen = []

    async def scenario():
        batcher = Batcher(lambda rows: seen.append(len(rows)) or rows, max_rows=8, max_delay=1.0)
        await asyncio.gather(batcher.submit([1]), batcher.submit([2]))
        late = asyncio.create_task(batcher.submit([3]))
        await asyncio.sleep(0)
        later = asyncio.create_task(batcher.submit([4]))
        await asyncio.gather(late, later)

    run(scenario())
    assert seen == [2, 2]


def test_a_full_batch_does_not_wait():
    async def scenario():
        batcher = Batcher(lambda rows: rows, max_rows=2, max_delay=20.0)
        await asyncio.gather(batcher.submit([1]), batcher.submit([2]))
        await asyncio.wait_for(asyncio.gather(batcher.submit([3]), batcher.submit([4])), 20.0)

    run(scenario())


def test_one_bad_row_fails_alone():
    def answer(rows):
        if "bad" in rows:
            raise ValueError("bad row")
        return rows

    async def scenario():
        batcher = Batcher(answer, max_rows=16, max_delay=0.0)
        return await asyncio.gather(
            batcher.submit(["good"]), batcher.submit(["bad"]), batcher.submit(["fine"]), return_exceptions=True
        )

    first, second, third = run(scenario())
    assert (first, third) == (["good"], ["fine"])
    assert isinstance(second, ValueError)


def test_too_much_waiting_is_refused_at_once():
    async def scenario():
        batcher = Batcher(lambda rows: rows, max_rows=2, max_delay=0.0, max_waiting=4)
        waiting = asyncio.create_task(batcher.submit([1, 2, 3]))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await batcher.submit([4, 5])
        return await waiting

    assert run(scenario()) == [1, 2, 3]


def test_what_would_wait_too_long_is_refused_by_the_speed_of_the_last_batches():
    async def refused(max_wait, size):
        slow = Slow(seconds_each=0.01)
        batcher = Batcher(slow, max_rows=4, max_delay=0.0, max_wait=max_wait, clock=slow.clock)
        assert await batcher.submit(list(range(40))) == list(range(40)), "an idle worker takes whatever comes"
        waiting = asyncio.create_task(batcher.submit(list(range(size))))
        await asyncio.sleep(0)
        answers = await asyncio.gather(batcher.submit([7]), return_exceptions=True)
        assert await waiting == list(range(size)), "what was taken is answered"
        return isinstance(answers[0], Overloaded)

    assert run(refused(0.1, 40))
    assert not run(refused(0.41, 40))
    assert not run(refused(0.1, 1))


def test_a_slow_first_run_refuses_nobody_and_three_in_a_row_do():
    async def taken(slow_runs):
        slow = Slow(seconds=0.05)
        batcher = Batcher(slow, max_rows=8, max_delay=0.0, max_wait=0.1, clock=slow.clock)
        for _ in range(slow_runs):
            await batcher.submit([0])
        answers = await asyncio.gather(*(batcher.submit([number]) for number in range(6)), return_exceptions=True)
        return not any(isinstance(answer, Overloaded) for answer in answers)

    assert run(taken(1)) and run(taken(2))
    assert not run(taken(3))


def test_every_row_gets_its_own_answer_whatever_the_sizes():
    async def scenario():
        batcher = Batcher(lambda rows: [row * 2 for row in rows], max_rows=7, max_delay=0.001)
        requests = [list(range(size * 10, size * 10 + size % 5 + 1)) for size in range(60)]
        answers = await asyncio.gather(*(batcher.submit(rows) for rows in requests))
        assert answers == [[row * 2 for row in rows] for rows in requests]
        assert batcher.rows == sum(map(len, requests))
        assert batcher.runs < batcher.rows

    run(scenario())


def test_the_loop_goes_on_while_a_batch_runs_and_who_hung_up_is_not_answered():
    gate, seen = threading.Event(), []

    def answer(rows):
        seen.append((list(rows), threading.current_thread() is threading.main_thread()))
        if len(rows) > 1:
            assert gate.wait(LIMIT_S)
        return rows

    async def scenario():
        batcher = Batcher(answer, max_rows=2, max_delay=0.0)
        first, gone = (asyncio.create_task(batcher.submit([number])) for number in (1, 2))
        await until(lambda: seen)
        late = asyncio.create_task(batcher.submit([3]))
        gone.cancel()
        await asyncio.sleep(0)
        assert len(seen) == 1 and not first.done(), "one batch at a time"
        gate.set()
        assert await asyncio.wait_for(asyncio.gather(first, late), LIMIT_S) == [[1], [3]]
        assert gone.cancelled()

    run(scenario())
    assert seen == [([1, 2], False), ([3], False)]


def test_rows_that_run_count_as_work_that_lies_before_a_request():
    gate, begun, slow = threading.Event(), threading.Event(), Slow(seconds=0.02)

    def answer(rows):
        if len(rows) > 1:
            begun.set()
            assert gate.wait(LIMIT_S)
        return slow(rows)

    async def scenario():
        batcher = Batcher(answer, max_rows=8, max_delay=0.0, max_wait=0.1, clock=slow.clock)
        for _ in range(3):
            await batcher.submit([0])
        running = asyncio.create_task(batcher.submit(list(range(8))))
        await until(begun.is_set)
        with pytest.raises(Overloaded):
            await batcher.submit([1])
        gate.set()
        assert await running == list(range(8))
        assert await batcher.submit([2]) == [2], "nothing lies before it any more"

    run(scenario())


def test_each_run_is_answered_when_it_is_done_not_when_all_are():
    gate, threads = threading.Event(), set()

    def answer(rows):
        threads.add(threading.current_thread().name)
        if rows == ["slow"]:
            assert gate.wait(LIMIT_S)
        return rows

    async def scenario():
        batcher = Batcher(answer, max_rows=1, max_delay=0.0)
        first, second = (asyncio.create_task(batcher.submit([row])) for row in ("quick", "slow"))
        assert await asyncio.wait_for(first, LIMIT_S) == ["quick"]
        assert not second.done()
        gate.set()
        assert await asyncio.wait_for(second, LIMIT_S) == ["slow"]
        # The model's thread has gone to rest once a row alone is answered by the loop's.
        async with asyncio.timeout(LIMIT_S):
            while len(threads) < 2:
                assert await batcher.submit(["alone"]) == ["alone"]

    run(scenario())
    assert threading.main_thread().name in threads and len(threads) == 2, (
        "two rows on the model's thread, a row alone on the loop's"
    )


def test_a_thread_that_ran_dry_is_woken_again_and_nothing_is_forgotten():
    async def client(batcher, number):
        for turn in range(200):
            assert await batcher.submit([(number, turn)]) == [(number, turn)]

    async def scenario(max_rows):
        batcher = Batcher(lambda rows: rows, max_rows=max_rows, max_delay=0.0)
        await asyncio.wait_for(asyncio.gather(*(client(batcher, number) for number in range(5))), LIMIT_S)
        assert batcher.rows == 1000

    run(scenario(1))
    run(scenario(4))


def test_who_hung_up_costs_the_model_nothing_and_leaves_no_trace():
    gate, seen = threading.Event(), []

    def answer(rows):
        seen.append(rows)
        assert gate.wait(LIMIT_S)
        return rows

    async def scenario():
        batcher = Batcher(answer, max_rows=1, max_delay=0.0, max_waiting=3)
        tasks = [asyncio.create_task(batcher.submit([number])) for number in range(3)]
        await until(lambda: seen)
        tasks[2].cancel()
        gate.set()
        assert await asyncio.gather(*tasks[:2]) == [[0], [1]]
        assert await asyncio.gather(*(batcher.submit([number]) for number in (3, 4, 5))) == [[3], [4], [5]]

    run(scenario())
    assert [2] not in seen


def test_a_run_that_does_not_end_is_seen_from_outside():
    release = threading.Event()

    async def scenario():
        batcher = Batcher(lambda rows: release.wait(LIMIT_S) and rows, max_rows=4, max_delay=0.0)
        seen = [batcher.stalled_seconds()]
        asked = asyncio.create_task(batcher.submit([1, 2]))
        await until(lambda: batcher.stalled_seconds() > 0.1)
        seen.append(batcher.stalled_seconds())
        release.set()
        await asked
        return [*seen, batcher.stalled_seconds()]

    before, during, after = run(scenario())
    assert (before, after) == (0.0, 0.0)
    assert during > 0.1
