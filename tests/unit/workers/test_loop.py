"""Periodic work goes on, whatever happens to one run of it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.wire.edge.runner import Runner
from pandawn_server.workers.loop import PeriodicWorker

OFTEN = timedelta(milliseconds=1)
SELDOM = timedelta(hours=1)


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    """One thread."""
    runner = Runner(1)
    yield runner
    await runner.close()


async def test_results_come_back_to_the_event_loop(runner: Runner) -> None:
    results: asyncio.Queue[int] = asyncio.Queue()
    numbers = iter(range(1000))
    worker = PeriodicWorker("count", OFTEN, lambda: next(numbers), runner, after=results.put_nowait)
    worker.start()
    assert [await results.get() for _ in range(3)] == [0, 1, 2]
    await worker.stop()


@pytest.mark.parametrize(
    "error",
    [UnavailableError("DATABASE_UNAVAILABLE", "away"), KeyError("a mistake")],
    ids=["outage", "mistake"],
)
async def test_a_failed_run_is_not_the_last(runner: Runner, error: Exception) -> None:
    runs: list[int] = []
    recovered = asyncio.Event()

    def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise error

    worker = PeriodicWorker("flaky", OFTEN, work, runner, after=lambda _: recovered.set())
    worker.start()
    await recovered.wait()
    await worker.stop()
    assert len(runs) >= 3


async def test_there_is_no_pause_while_there_is_more_to_do(runner: Runner) -> None:
    left = iter([True, True, False])
    done = asyncio.Event()
    worker = PeriodicWorker(
        "behind",
        SELDOM,
        lambda: next(left),
        runner,
        after=lambda more: None if more else done.set(),
        is_behind=bool,
    )
    worker.start()
    await done.wait()
    await worker.stop()
    assert list(left) == []


async def test_stopping_does_not_wait_for_the_pause(runner: Runner) -> None:
    ran = asyncio.Event()
    worker = PeriodicWorker("idle", SELDOM, lambda: None, runner, after=lambda _: ran.set())
    worker.start()
    await ran.wait()
    await worker.stop()


async def test_stopping_lets_a_run_come_to_its_end(runner: Runner) -> None:
    began, go = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        began.set()
        go.wait()
        ended.append(True)

    worker = PeriodicWorker("slow", SELDOM, work, runner)
    worker.start()
    while not began.is_set():  # noqa: ASYNC110 (a thread sets it)
        await asyncio.sleep(0.001)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    go.set()
    await stopping
    assert ended


async def test_a_worker_that_was_never_started_can_be_stopped(runner: Runner) -> None:
    await PeriodicWorker("unused", SELDOM, lambda: None, runner).stop()
