"""Use cases run in threads and keep the context of their caller."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from pandawn_server.wire.runner import Runner

NAME: ContextVar[str] = ContextVar("NAME")


async def test_work_runs_in_another_thread_with_the_context_of_its_caller() -> None:
    runner = Runner(1)
    NAME.set("caller")
    assert await runner.run(NAME.get) == "caller"
    assert await runner.run(threading.get_ident) != threading.get_ident()
    await runner.close()


async def test_what_the_work_raises_reaches_the_caller() -> None:
    runner = Runner(1)
    with pytest.raises(ValueError, match="invalid literal"):
        await runner.run(int, "x")
    await runner.close()


async def test_closing_waits_for_work_whose_caller_has_left() -> None:
    runner = Runner(1)
    began, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go.wait()
        done.set()

    caller = asyncio.create_task(runner.run(work))
    while not began.is_set():  # noqa: ASYNC110 (a thread sets it)
        await asyncio.sleep(0.001)
    caller.cancel()
    closing = asyncio.create_task(runner.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    go.set()
    await closing
    assert done.is_set()
