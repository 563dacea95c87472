"""Use cases run in threads, keep the context of their caller, and are fair to callers."""

import asyncio
import threading
from contextvars import ContextVar, copy_context

import pytest

from pandawn_server.domain.access.principals import Method, Principal, Role
from pandawn_server.wire.edge.caller import enter_caller
from pandawn_server.wire.edge.runner import Runner

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


class Gated:
    """Work that goes on until it is let go, and tells how many do it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []

    def work(self, name: str) -> str:
        self.begun.append(name)
        assert self.go.wait(20)
        return name


def start(runner: Runner, gated: Gated, name: str, role: Role = Role.USER) -> asyncio.Task[str]:
    context = copy_context()
    who = Principal(name, Method.TOKEN, frozenset({role}), "a rule")
    context.run(enter_caller, who)
    return asyncio.get_running_loop().create_task(runner.run(gated.work, name), context=context)


async def begun(gated: Gated, count: int) -> list[str]:
    async with asyncio.timeout(20):
        while len(gated.begun) < count:  # noqa: ASYNC110 (threads add to it)
            await asyncio.sleep(0.001)
    return sorted(gated.begun)


async def test_one_caller_has_half_of_the_threads_at_most() -> None:
    runner, gated = Runner(4), Gated()
    greedy = [start(runner, gated, "greedy") for _ in range(20)]
    assert await begun(gated, 2) == ["greedy", "greedy"]
    other = [start(runner, gated, "other")]
    assert await begun(gated, 3) == ["greedy", "greedy", "other"]
    gated.go.set()
    assert await asyncio.gather(*greedy, *other) == [*["greedy"] * 20, "other"]
    await runner.close()


async def test_callers_whose_work_waits_take_turns() -> None:
    runner, gated = Runner(2), Gated()
    blockers = [start(runner, gated, name) for name in ("x", "y")]
    await begun(gated, 2)
    many = [start(runner, gated, "many") for _ in range(10)]
    one = start(runner, gated, "one")
    await asyncio.sleep(0)
    gated.go.set()
    await asyncio.gather(*blockers, *many, one)
    assert gated.begun.index("one") <= 4
    await runner.close()


async def test_work_of_an_operator_waits_for_nobody_s_turn() -> None:
    runner, gated = Runner(2), Gated()
    tasks = [start(runner, gated, "op", Role.OPERATOR) for _ in range(2)]
    assert await begun(gated, 2) == ["op", "op"]
    gated.go.set()
    await asyncio.gather(*tasks)
    await runner.close()


async def test_a_caller_that_gives_up_takes_no_turn_along() -> None:
    runner, gated = Runner(2), Gated()
    first = start(runner, gated, "ann")
    await begun(gated, 1)
    waiting = [start(runner, gated, "ann") for _ in range(3)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    gated.go.set()
    assert await asyncio.gather(first, *waiting[1:]) == ["ann"] * 3
    # As at first: nobody holds what is nobody's.
    again = [start(runner, gated, "ann") for _ in range(5)]
    assert await asyncio.gather(*again) == ["ann"] * 5
    await runner.close()
