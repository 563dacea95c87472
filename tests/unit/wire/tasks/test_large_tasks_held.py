"""What large tasks on their way cost others: bytes, of one task, of one caller and of all, and turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pandawn.broker.v1 import broker_pb2, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn_server.domain.errors import ExhaustedError, InvalidRequestError
from pandawn_server.wire.tasks.large import INPUT_BYTES, RETRY_AFTER, SLICE, HeldInputs, LargeTask

ONE_MESSAGE = 10


def message(begin: int) -> broker_pb2.SubmitLargeTaskRequest:
    inputs = [
        task_pb2.TaskInput(file=common_pb2.File(lfn=f"f{n:04d}"), url=f"file:///d/f{n:04d}")
        for n in range(begin, begin + ONE_MESSAGE)
    ]
    return broker_pb2.SubmitLargeTaskRequest(inputs=inputs)


BYTES = sum(entry.ByteSize() for entry in message(0).inputs)
"""What the inputs of each message take on the wire."""

HELD = BYTES + ONE_MESSAGE * INPUT_BYTES
"""What counts for them while the process holds them."""


async def stream(count: int) -> AsyncIterator[broker_pb2.SubmitLargeTaskRequest]:
    spec = task_pb2.TaskSpec(user="anna", dataset="d", command=["true"], queue="q")
    header = broker_pb2.SubmitTaskRequest(request_id="r", task=spec)
    yield broker_pb2.SubmitLargeTaskRequest(header=header)
    for number in range(count):
        yield message(number * ONE_MESSAGE)


def test_a_task_is_taken_up_to_its_bound_in_bytes_and_refused_above() -> None:
    held = HeldInputs(most_of_one=2 * BYTES)

    async def submit(messages: int) -> int:
        with LargeTask(held, "anna") as task:
            _, _, spec = await task.read(stream(messages))
            assert held.size == messages * HELD
            return len(spec.inputs)

    assert asyncio.run(submit(2)) == 2 * ONE_MESSAGE
    with pytest.raises(InvalidRequestError) as caught:
        asyncio.run(submit(3))
    (violation,) = caught.value.violations
    assert violation.field == "task.inputs"
    assert f"more than {2 * BYTES:,} bytes" in violation.description
    assert held.size == 0


def test_tasks_that_are_on_their_way_together_are_bounded_and_the_last_comes_again() -> None:
    held = HeldInputs(most=3 * HELD)

    async def scenario() -> None:
        with LargeTask(held, "anna") as first:
            await first.read(stream(2))
            with pytest.raises(ExhaustedError) as caught, LargeTask(held, "berta") as second:
                await second.read(stream(2))
            assert (caught.value.reason, caught.value.retry_after) == ("OVERLOADED", RETRY_AFTER)
            # What the refused one held is free again, what the other holds is not.
            assert held.size == 2 * HELD
        with LargeTask(held, "berta") as again:
            await again.read(stream(2))
        assert held.size == 0

    asyncio.run(scenario())


def test_a_caller_leaves_room_for_others() -> None:
    held = HeldInputs(most=4 * HELD, most_of_caller=2 * HELD)

    async def scenario() -> None:
        with LargeTask(held, "anna") as first:
            await first.read(stream(2))
            with (
                pytest.raises(ExhaustedError, match="your other large tasks") as caught,
                LargeTask(held, "anna") as second,
            ):
                await second.read(stream(1))
            assert (caught.value.reason, caught.value.retry_after) == ("OVERLOADED", RETRY_AFTER)
            with LargeTask(held, "berta") as others:
                await others.read(stream(2))
        with LargeTask(held, "anna") as again:
            await again.read(stream(2))
        assert held.size == 0

    asyncio.run(scenario())


def test_others_get_their_turn_while_a_message_is_checked() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def scenario() -> None:
        others = asyncio.ensure_future(take_turns())
        inputs = [entry for n in range(SLICE) for entry in message(n * ONE_MESSAGE).inputs]
        large = broker_pb2.SubmitLargeTaskRequest(inputs=inputs)

        async def requests() -> AsyncIterator[broker_pb2.SubmitLargeTaskRequest]:
            async for first in stream(0):
                yield first
            yield large

        with LargeTask(HeldInputs(), "anna") as task:
            await task.read(requests())
        others.cancel()

    asyncio.run(scenario())
    # Once for each slice of the message, but for the last.
    assert turns >= ONE_MESSAGE - 1
