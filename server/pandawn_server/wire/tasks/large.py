"""Large tasks, whose inputs come in many messages: collects them, with a limit on all such tasks in progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import blake2b
from typing import Self

from pandawn.broker.v1 import broker_pb2, task_pb2
from pandawn_server.domain.errors import ExhaustedError
from pandawn_server.domain.tasks.tasks import File, TaskSpec
from pandawn_server.wire.edge.auditing import record_request
from pandawn_server.wire.edge.bounds import give_way
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.tasks.convert import MAX_INPUTS, check_inputs, from_input, from_spec

MAX_INPUTS_A_MESSAGE = 10_000
"""Maximum number of inputs in one message: all callers wait while they are decoded and checked."""

MAX_TASK_BYTES = 384 * 1024**2
"""Maximum encoded size of a task's inputs: 500,000 with names of 240 bytes and their URLs take 300 MB."""

INPUT_BYTES = 150
"""Bytes counted for an input beside its encoded size: even one with short names takes 400 bytes in memory."""

MAX_CALLER_BYTES = MAX_TASK_BYTES + MAX_INPUTS * INPUT_BYTES
"""Maximum size of the inputs of one caller's large tasks in one process: one largest task, or several smaller ones."""

MAX_HELD_BYTES = 2 * MAX_CALLER_BYTES
"""Maximum size of the inputs of all large tasks in one process. In memory they take about twice as much."""

SLICE = 500
"""Inputs to check before other callers get their turn: about 5 ms."""

RETRY_AFTER = timedelta(seconds=15)
"""When to retry while the process holds inputs of other tasks: they are stored in less than a minute."""


@dataclass(slots=True)
class HeldInputs:
    """The input bytes that the process holds, by caller. Only for the event loop.

    At most `most` in all, and `most_of_caller` for one caller, with `INPUT_BYTES` for each input; at most
    `most_of_one` encoded bytes for one task.
    """

    most: int = MAX_HELD_BYTES
    most_of_caller: int = MAX_CALLER_BYTES
    most_of_one: int = MAX_TASK_BYTES
    sizes: Counter[str] = field(default_factory=Counter)

    @property
    def size(self) -> int:
        """The bytes of all callers."""
        return self.sizes.total()

    def hold(self, who: str, size: int) -> None:
        """Adds bytes of a caller. Raises `ExhaustedError` (OVERLOADED)."""
        own = self.sizes[who] + size > self.most_of_caller
        if own or self.size + size > self.most:
            whose = "your other large tasks" if own else "other large tasks"
            raise ExhaustedError(
                "OVERLOADED",
                f"the server is receiving {whose}; retry soon",
                retry_after=RETRY_AFTER,
            )
        self.sizes[who] += size

    def drop(self, who: str, size: int) -> None:
        """Subtracts bytes of a caller."""
        self.sizes[who] -= size
        if not self.sizes[who]:
            del self.sizes[who]


class LargeTask:
    """A large task that is being received; a context manager that holds its inputs' bytes."""

    def __init__(self, held: HeldInputs, who: str) -> None:
        """`who` is the name of the caller."""
        self._held = held
        self._who = who
        self._held_size = 0
        self._size = 0
        self._files: list[File] = []
        self._digest = blake2b(digest_size=16)
        self._header: broker_pb2.SubmitTaskRequest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.drop(self._who, self._held_size)

    async def read(
        self, requests: AsyncIterator[broker_pb2.SubmitLargeTaskRequest]
    ) -> tuple[str, str, TaskSpec]:
        """Reads the stream to its end; returns the request_id, a digest of the request, and the task.

        Raises `InvalidRequestError`, and `ExhaustedError` (OVERLOADED) if the process holds too many bytes already.
        """
        spec: TaskSpec | None = None
        async for request in requests:
            check = Checker()
            check.require(
                request.HasField("header") == (spec is None),
                "header",
                "must be in the first message, and only there",
            )
            if spec is None:
                spec = self._begin(check, request.header)
            await self._add(check, request.inputs)
        if spec is None or self._header is None:
            check = Checker()
            check.add("header", "must be in the first message, but the stream is empty")
            check.done()
        assert spec is not None and self._header is not None  # noqa: PT018 (as checked above)
        spec = replace(spec, inputs=tuple(self._files))
        self._files.clear()
        return self._header.request_id, self._digest.hexdigest(), spec

    def _begin(self, check: Checker, header: broker_pb2.SubmitTaskRequest) -> TaskSpec:
        self._header = header
        record_request(header)
        check.identifier("header.request_id", header.request_id)
        check.require(
            not header.task.inputs,
            "header.task.inputs",
            "must be empty: inputs go beside the header, not into it",
        )
        self._digest.update(header.task.SerializeToString(deterministic=True))
        return from_spec(check, header.task)

    async def _add(self, check: Checker, inputs: Sequence[task_pb2.TaskInput]) -> None:
        check.count("inputs", inputs, 0, MAX_INPUTS_A_MESSAGE)
        if len(self._files) + len(inputs) > MAX_INPUTS:
            check.add("task.inputs", f"has more than {MAX_INPUTS:,} items")
            check.done()
        first = len(self._files)
        for at in range(0, len(inputs), SLICE):
            begin_s = time.monotonic()
            self._add_slice(check, inputs[at : at + SLICE], first + at)
            await give_way(time.monotonic() - begin_s)
        check.done()

    def _add_slice(self, check: Checker, inputs: Sequence[task_pb2.TaskInput], first: int) -> None:
        check_inputs(check, inputs, first)
        size = 0
        for entry in inputs:
            encoded = entry.SerializeToString(deterministic=True)
            # Each input is hashed separately: a retry may divide them into messages differently.
            self._digest.update(len(encoded).to_bytes(4, "big") + encoded)
            size += len(encoded)
        self._size += size
        if self._size > self._held.most_of_one:
            check.add(
                "task.inputs", f"take more than {self._held.most_of_one:,} bytes; split the task"
            )
        if not check.ok:
            return
        size += INPUT_BYTES * len(inputs)
        self._held.hold(self._who, size)
        self._held_size += size
        self._files += map(from_input, inputs)
