"""However calls come, leave and fail, each is answered once, with its own answer."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from pandawn_server.domain.errors import NotFoundError, PandawnError
from pandawn_server.wire.edge.batcher import Batcher
from pandawn_server.wire.edge.runner import Runner


@dataclass(frozen=True)
class Call:
    """One caller: how many turns of the event loop it comes late, and what happens to it.

    One that is answered asks `again` so many times, each time at once.
    """

    delay: int
    fate: str
    again: int


CALLS = st.lists(
    st.builds(
        Call,
        delay=st.integers(0, 6),
        fate=st.sampled_from(["answered", "answered", "refused", "poison", "leaves"]),
        again=st.integers(0, 2),
    ),
    max_size=25,
)


class Ledger:
    """A use case that writes down what it did, once per request unless the batch fails."""

    def __init__(self, calls: list[Call], max_batch: int) -> None:
        self._calls = calls
        self._max_batch = max_batch
        self._lock = threading.Lock()
        self.running = 0
        self.most_running = 0
        self.done: list[int] = []

    def __call__(self, numbers: Sequence[int]) -> list[str | PandawnError]:
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        assert 1 <= len(numbers) <= self._max_batch
        try:
            fates = [self._calls[number].fate for number in numbers]
            if "poison" in fates:
                raise ZeroDivisionError(str(numbers))
            with self._lock:
                self.done.extend(numbers)
            return [
                NotFoundError("REFUSED", str(number)) if fate == "refused" else f"answer {number}"
                for number, fate in zip(numbers, fates, strict=True)
            ]
        finally:
            with self._lock:
                self.running -= 1


async def one(batcher: Batcher[int, str], number: int, call: Call) -> str:
    for _ in range(call.delay):
        await asyncio.sleep(0)
    task = asyncio.create_task(batcher.submit(number))
    if call.fate == "leaves":
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    for _ in range(call.again if call.fate == "answered" else 0):
        assert await batcher.submit(number) == task.result()
    if task.cancelled():
        return "left"
    error = task.exception()
    return task.result() if error is None else type(error).__name__


async def play(calls: list[Call], max_batch: int, concurrency: int) -> tuple[list[str], Ledger]:
    runner = Runner(concurrency)
    ledger = Ledger(calls, max_batch)
    batcher = Batcher("ledger", ledger, runner, max_batch=max_batch, concurrency=concurrency)
    answers = await asyncio.gather(*(one(batcher, i, call) for i, call in enumerate(calls)))
    await batcher.close()
    await runner.close()
    return answers, ledger


@settings(max_examples=60, deadline=None)
@given(CALLS, st.integers(1, 5), st.integers(1, 3))
def test_every_call_gets_its_own_answer_once(
    calls: list[Call], max_batch: int, concurrency: int
) -> None:
    answers, ledger = asyncio.run(play(calls, max_batch, concurrency))
    assert ledger.most_running <= concurrency
    for number, call in enumerate(calls):
        asked = 1 + (call.again if call.fate == "answered" else 0)
        assert ledger.done.count(number) <= asked, "a request was carried out twice"
    for number, (call, answer) in enumerate(zip(calls, answers, strict=True)):
        match call.fate:
            case "answered":
                assert answer == f"answer {number}"
            case "refused":
                assert answer == "NotFoundError"
            case "poison":
                assert answer == "ZeroDivisionError"
            case _:
                # It left before its batch, or a moment too late.
                assert answer in {"left", f"answer {number}"}
        if call.fate in {"answered", "refused"}:
            assert number in ledger.done
