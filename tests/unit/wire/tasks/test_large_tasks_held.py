"""How much of large tasks a process holds, in bytes: of one, and of all that are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pandawn.broker.v1 import broker_pb2, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn_server.domain.errors import ExhaustedError, InvalidRequestError
from pandawn_server.wire.tasks.large import RETRY_AFTER, HeldInputs, LargeTask

ONE_MESSAGE = 10


def message(begin: int) -> broker_pb2.SubmitLargeTaskRequest:
    inputs = [
        task_pb2.TaskInput(file=common_pb2.File(lfn=f"f{n:04d}"), url=f"file:///d/f{n:04d}")
        for n in range(begin, begin + ONE_MESSAGE)
    ]
    return broker_pb2.SubmitLargeTaskRequest(inputs=inputs)


BYTES = sum(entry.ByteSize() for entry in message(0).inputs)
"""What the inputs of each message take."""


async def stream(count: int) -> AsyncIterator[broker_pb2.SubmitLargeTaskRequest]:
    spec = task_pb2.TaskSpec(user="anna", dataset="d", command=["true"], queue="q")
    header = broker_pb2.SubmitTaskRequest(request_id="r", task=spec)
    yield broker_pb2.SubmitLargeTaskRequest(header=header)
    for number in range(count):
        yield message(number * ONE_MESSAGE)


def test_a_task_is_taken_up_to_its_bound_in_bytes_and_refused_above() -> None:
    held = HeldInputs(most_of_one=2 * BYTES)

    async def submit(messages: int) -> int:
        with LargeTask(held) as task:
            _, _, spec = await task.read(stream(messages))
            assert held.size == messages * BYTES
            return len(spec.inputs)

    assert asyncio.run(submit(2)) == 2 * ONE_MESSAGE
    with pytest.raises(InvalidRequestError) as caught:
        asyncio.run(submit(3))
    (violation,) = caught.value.violations
    assert violation.field == "task.inputs"
    assert f"more than {2 * BYTES:,} bytes" in violation.description
    assert held.size == 0


def test_tasks_that_are_on_their_way_together_are_bounded_and_the_last_comes_again() -> None:
    held = HeldInputs(most=3 * BYTES)

    async def scenario() -> None:
        with LargeTask(held) as first:
            await first.read(stream(2))
            with pytest.raises(ExhaustedError) as caught, LargeTask(held) as second:
                await second.read(stream(2))
            assert (caught.value.reason, caught.value.retry_after) == ("OVERLOADED", RETRY_AFTER)
            # What the refused one held is free again, what the other holds is not.
            assert held.size == 2 * BYTES
        with LargeTask(held) as again:
            await again.read(stream(2))
        assert held.size == 0

    asyncio.run(scenario())
