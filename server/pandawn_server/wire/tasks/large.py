"""Large tasks, whose inputs come in many messages: collects them, with a limit on all such tasks in progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import timedelta
from hashlib import blake2b
from typing import Self

from pandawn.broker.v1 import broker_pb2, task_pb2
from pandawn_server.domain.errors import ExhaustedError
from pandawn_server.domain.tasks.tasks import File, TaskSpec
from pandawn_server.wire.edge.auditing import record_request
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.tasks.convert import MAX_INPUTS, check_inputs, from_input, from_spec

MAX_INPUTS_A_MESSAGE = 10_000
"""Maximum number of inputs in one message: all callers wait while they are decoded and checked."""

MAX_TASK_BYTES = 384 * 1024**2
"""Maximum encoded size of a task's inputs: 500,000 with names of 240 bytes and their URLs take 300 MB."""

MAX_HELD_BYTES = 2 * MAX_TASK_BYTES
"""Maximum encoded size of the inputs of all large tasks in one process. In memory they take about twice as much."""

RETRY_AFTER = timedelta(seconds=15)
"""When to retry while the process holds inputs of other tasks: they are stored in less than a minute."""


class HeldInputs:
    """The input bytes that the process holds: at most `most`, of one task `most_of_one`. Only for the event loop."""

    def __init__(self, most: int = MAX_HELD_BYTES, most_of_one: int = MAX_TASK_BYTES) -> None:
        self.size = 0
        self.most = most
        self.most_of_one = most_of_one


class LargeTask:
    """A large task that is being received; a context manager that holds its inputs' bytes."""

    def __init__(self, held: HeldInputs) -> None:
        self._held = held
        self._size = 0
        self._files: list[File] = []
        self._digest = blake2b(digest_size=16)
        self._header: broker_pb2.SubmitTaskRequest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.size -= self._size

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
            self._add(check, request.inputs)
            check.done()
            self._files += map(from_input, request.inputs)
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

    def _add(self, check: Checker, inputs: Iterable[task_pb2.TaskInput]) -> None:
        inputs = list(inputs)
        check.count("inputs", inputs, 0, MAX_INPUTS_A_MESSAGE)
        first = len(self._files)
        if first + len(inputs) > MAX_INPUTS:
            check.add("task.inputs", f"has more than {MAX_INPUTS:,} items")
            check.done()
        check_inputs(check, inputs, first)
        for entry in inputs:
            encoded = entry.SerializeToString(deterministic=True)
            # Each input is hashed separately: a retry may divide them into messages differently.
            self._digest.update(len(encoded).to_bytes(4, "big") + encoded)
            self._hold(check, len(encoded))

    def _hold(self, check: Checker, size: int) -> None:
        if self._size + size > self._held.most_of_one:
            check.add(
                "task.inputs", f"take more than {self._held.most_of_one:,} bytes; split the task"
            )
            check.done()
        if self._held.size + size > self._held.most:
            raise ExhaustedError(
                "OVERLOADED",
                "the server is receiving other large tasks; retry soon",
                retry_after=RETRY_AFTER,
            )
        self._size += size
        self._held.size += size
