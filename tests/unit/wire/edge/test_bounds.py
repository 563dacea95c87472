"""One caller gets so much of the server at one time, whatever others have; the operator all of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Method, Principal, Role
from pandawn_server.domain.errors import ExhaustedError
from pandawn_server.wire.edge import bounds as module
from pandawn_server.wire.edge.bounds import (
    CALLERS,
    DAEMONS,
    MAX_READS,
    REGISTRATIONS_BURST,
    REGISTRATIONS_PER_SECOND,
    STRANGERS,
    Bounds,
    Reading,
    Visit,
    count_work,
    pace_large,
)


@pytest.fixture(autouse=True)
def outside_of_calls() -> Iterator[None]:
    """No visit of a test stays for what runs in the same thread afterwards."""
    token = module._VISIT.set(None)
    yield
    module._VISIT.reset(token)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def caller(name: str = "ann", *roles: Role) -> Principal:
    return Principal(name, Method.TOKEN, frozenset(roles or {Role.USER}), "a rule")


def fill(
    bounds: Bounds, who: Principal | None, count: int, *, streams: bool = False
) -> list[Visit | None]:
    return [bounds.enter(who, "ipv4:10.0.0.1", is_stream=streams) for _ in range(count)]


def reason(
    bounds: Bounds, who: Principal | None, *, is_stream: bool = False, registers: bool = False
) -> str:
    try:
        bounds.leave(bounds.enter(who, "ipv4:10.0.0.1", is_stream=is_stream, registers=registers))
    except ExhaustedError as error:
        return error.reason if error.retry_after else "no time to come again"
    return ""


def test_calls_beyond_the_bound_are_refused_and_those_of_others_are_not() -> None:
    bounds = Bounds()
    visits = fill(bounds, caller(), CALLERS.calls)
    assert reason(bounds, caller()) == "TOO_MANY_CALLS"
    assert reason(bounds, caller("bob")) == ""
    bounds.leave(visits[0])
    assert reason(bounds, caller()) == ""


def test_streams_have_a_bound_below_that_of_calls() -> None:
    bounds = Bounds()
    fill(bounds, caller(), CALLERS.streams, streams=True)
    assert reason(bounds, caller(), is_stream=True) == "TOO_MANY_STREAMS"
    assert reason(bounds, caller()) == ""


def test_a_monitor_may_follow_for_all_who_look_at_it() -> None:
    bounds = Bounds()
    monitor = caller("monitor", Role.MONITOR)
    fill(bounds, monitor, DAEMONS.streams, streams=True)
    assert reason(bounds, monitor, is_stream=True) == "TOO_MANY_STREAMS"


def test_an_operator_has_no_bounds() -> None:
    bounds = Bounds()
    assert fill(bounds, LOCAL_OPERATOR, CALLERS.calls + 1) == [None] * (CALLERS.calls + 1)


def test_strangers_are_counted_by_address() -> None:
    bounds = Bounds()
    fill(bounds, None, STRANGERS.calls)
    assert reason(bounds, None) == "TOO_MANY_CALLS"
    assert bounds.enter(None, "ipv4:10.0.0.2", is_stream=False) is not None


def test_registrations_have_a_pace_after_the_first_many() -> None:
    clock = Clock()
    bounds = Bounds(clock)
    robot = caller("robot", Role.PILOT)
    reasons = {reason(bounds, robot, registers=True) for _ in range(REGISTRATIONS_BURST)}
    assert reasons == {""}
    assert reason(bounds, robot, registers=True) == "TOO_MANY_REGISTRATIONS"
    assert reason(bounds, robot) == ""
    clock.now_s = 1.0
    reasons_later = [
        reason(bounds, robot, registers=True) for _ in range(int(REGISTRATIONS_PER_SECOND) + 1)
    ]
    assert reasons_later == [*[""] * int(REGISTRATIONS_PER_SECOND), "TOO_MANY_REGISTRATIONS"]


def test_accounts_of_callers_that_have_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FORGET_ABOVE", 10)
    bounds = Bounds()
    kept = bounds.enter(caller("kept"), "ipv4:10.0.0.1", is_stream=False)
    for number in range(100):
        bounds.leave(bounds.enter(caller(f"u{number}"), "ipv4:10.0.0.1", is_stream=False))
    assert len(bounds._accounts) < 15
    bounds.leave(kept)
    assert reason(bounds, caller("kept")) == ""


def test_messages_of_one_caller_are_read_a_few_at_a_time() -> None:
    async def scenario() -> int:
        bounds = Bounds()
        most = reading = 0
        release = asyncio.Event()

        async def call() -> None:
            nonlocal most, reading
            bounds.enter(caller(), "ipv4:10.0.0.1", is_stream=False)
            async with Reading():
                reading += 1
                most = max(most, reading)
                await release.wait()
                reading -= 1

        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(call(), context=copy_context()) for _ in range(MAX_READS * 3)]
        for _ in range(5):
            await asyncio.sleep(0)
        # One that gives up while it waits takes nobody's turn along.
        tasks[-1].cancel()
        tasks[MAX_READS].cancel()
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert reading == 0
        return most

    assert asyncio.run(scenario()) == MAX_READS


def test_one_node_that_sends_slowly_does_not_keep_others_with_the_same_credential() -> None:
    async def scenario() -> bool:
        bounds = Bounds()
        for _ in range(MAX_READS):
            bounds.enter(caller("robot"), "ipv4:10.0.0.1", is_stream=False)
            await Reading().__aenter__()
        bounds.enter(caller("robot"), "ipv4:10.0.0.2", is_stream=False)
        async with asyncio.timeout(5), Reading():
            return True

    assert asyncio.run(scenario())


def begins(who: Principal, calls: int, work_s: float) -> list[float]:
    """When so many calls begin, in seconds from now, if each works and all of them come at once."""
    found: list[float] = []

    async def call() -> None:
        await pace_large()
        found.append(time.monotonic())
        count_work(work_s)

    async def all_calls() -> None:
        Bounds().enter(who, "ipv4:10.0.0.1", is_stream=False)
        await asyncio.gather(*(call() for _ in range(calls)))

    now = time.monotonic()
    copy_context().run(asyncio.run, all_calls())
    return [begin - now for begin in found]


def test_calls_of_a_caller_that_work_long_come_one_after_the_other() -> None:
    found = begins(caller(), 4, 0.05)
    assert len(found) == 4
    # Each waits for as long as the ones before it worked.
    assert all(begin >= 0.05 * number for number, begin in enumerate(found))


def test_an_operators_calls_wait_for_nothing() -> None:
    assert begins(LOCAL_OPERATOR, 4, 3600.0)[-1] < 60.0
