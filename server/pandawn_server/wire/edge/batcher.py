"""Group commit: concurrent calls share one run of their use case, one transaction, one commit.

While a batch is in the database, new calls queue up, and run together when it is done. The busier the server, the
larger the batches. A lone call is never delayed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from pandawn_server.domain.errors import PandawnError, UnavailableError
from pandawn_server.logs import Log
from pandawn_server.telemetry.api import OFF, SpanRef, Telemetry
from pandawn_server.telemetry.names import BATCH, BATCH_NAME, BATCH_SIZE, BATCH_SIZES
from pandawn_server.wire.edge.runner import Runner

Req = TypeVar("Req")
Res = TypeVar("Res")

DEFAULT_MAX_BATCH = 256
"""Maximum number of calls in a batch: bounds how long the first waits for the last."""

_log: Log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Entry(Generic[Req, Res]):
    request: Req
    answer: asyncio.Future[Res]
    cause: SpanRef | None


class Batcher(Generic[Req, Res]):
    """Batches calls of one kind. Use from the event loop only."""

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Req]], Sequence[Res | PandawnError]],
        runner: Runner,
        *,
        max_batch: int = DEFAULT_MAX_BATCH,
        concurrency: int = 1,
        crowd: int = 1,
        telemetry: Telemetry = OFF,
    ) -> None:
        """`run` is the use case: it returns one answer per request, in order, and runs in a thread.

        An answer that is a `PandawnError` is raised to that caller only; a `PandawnError` that `run` raises goes
        to all callers of the batch. After any other error, and after DATABASE_CONFLICT, which must have changed
        nothing, `run` is called again for each request alone, so that one bad request cannot fail the others.
        At most `concurrency` batches run at a time. A further one starts beside another only when `crowd` calls
        wait, because small batches cost more per call.
        """
        self._name = name
        self._run = run
        self._runner = runner
        self._max_batch = max_batch
        self._concurrency = concurrency
        self._crowd = crowd
        self._telemetry = telemetry
        self._waiting: deque[_Entry[Req, Res]] = deque()
        self._drains: set[asyncio.Task[None]] = set()
        # Whether a drain was created that has not taken any calls yet.
        self._starting = False
        self._closed = False

    async def submit(self, request: Req) -> Res:
        """Returns the answer to one request.

        A caller that is cancelled before its batch starts is left out; after that its answer is dropped.
        Raises `UnavailableError` (SHUTTING_DOWN) after `close`.
        """
        if self._closed:
            raise UnavailableError("SHUTTING_DOWN", "the server is stopping; retry the call")
        answer: asyncio.Future[Res] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(request, answer, self._telemetry.here()))
        self._wake()
        return await answer

    async def close(self) -> None:
        """Refuses new calls and waits until all earlier ones are answered."""
        self._closed = True
        while self._drains:
            await asyncio.wait(self._drains)

    def _wake(self) -> None:
        if self._starting or len(self._drains) >= self._concurrency:
            return
        if self._drains and len(self._waiting) < self._crowd:
            return
        self._starting = True
        # A task starts after the callbacks that are ready now, so calls that arrive together are batched at
        # no cost. Its context is empty, because it belongs to no call.
        drain = asyncio.get_running_loop().create_task(self._drain(), context=Context())
        self._drains.add(drain)
        drain.add_done_callback(self._drained)

    def _drained(self, drain: asyncio.Task[None]) -> None:
        self._drains.discard(drain)
        # A caller that got its answer may have called again before this callback ran.
        if self._waiting:
            self._wake()

    async def _drain(self) -> None:
        self._starting = False
        while batch := self._take():
            if self._waiting:
                self._wake()
            await self._answer(batch)

    def _take(self) -> list[_Entry[Req, Res]]:
        batch: list[_Entry[Req, Res]] = []
        while self._waiting and len(batch) < self._max_batch:
            entry = self._waiting.popleft()
            if not entry.answer.done():
                batch.append(entry)
        return batch

    async def _answer(self, batch: list[_Entry[Req, Res]]) -> None:
        outcome = await self._attempt(batch)
        if len(batch) > 1 and isinstance(outcome, Exception) and _may_be_of_one(outcome):
            _log.warning(
                "batch failed; retrying its calls one by one",
                batch=self._name,
                calls=len(batch),
                exc_info=outcome,
            )
            for entry in batch:
                if not entry.answer.done():
                    _settle([entry], await self._attempt([entry]))
            return
        _settle(batch, outcome)

    async def _attempt(
        self, batch: list[_Entry[Req, Res]]
    ) -> Sequence[Res | PandawnError] | BaseException:
        """Returns what `run` returned or raised: the caller decides what to do with an error."""
        if not self._telemetry.enabled:
            return await self._call(batch)
        self._telemetry.record(BATCH_SIZES, len(batch), {BATCH_NAME: self._name})
        with self._telemetry.observe(
            BATCH,
            f"batch {self._name}",
            {BATCH_NAME: self._name, BATCH_SIZE: len(batch)},
            causes=[entry.cause for entry in batch],
        ) as observation:
            outcome = await self._call(batch)
            if isinstance(outcome, BaseException):
                observation.fail(type(outcome).__name__)
            return outcome

    async def _call(
        self, batch: list[_Entry[Req, Res]]
    ) -> Sequence[Res | PandawnError] | BaseException:
        call = self._runner.run(self._run, [entry.request for entry in batch])
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        if not isinstance(outcome, BaseException) and len(outcome) != len(batch):
            return RuntimeError(
                f"{self._name} returned {len(outcome)} answers to {len(batch)} requests"
            )
        return outcome


class Batchers:
    """Makes the batchers of a server and closes them together."""

    def __init__(self, runner: Runner, *, concurrency: int = 1, telemetry: Telemetry = OFF) -> None:
        """`concurrency` is what the database supports: 1 if it has a single writer."""
        self._runner = runner
        self._concurrency = concurrency
        self._telemetry = telemetry
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def make(
        self,
        name: str,
        run: Callable[[Sequence[Req]], Sequence[Res | PandawnError]],
        *,
        max_batch: int = DEFAULT_MAX_BATCH,
        concurrency: int | None = None,
        crowd: int = 1,
    ) -> Batcher[Req, Res]:
        """Makes a batcher; see `Batcher`. `concurrency` defaults to that of the server."""
        batcher = Batcher(
            name,
            run,
            self._runner,
            max_batch=max_batch,
            concurrency=self._concurrency if concurrency is None else concurrency,
            crowd=crowd,
            telemetry=self._telemetry,
        )
        self._closers.append(batcher.close)
        return batcher

    async def close(self) -> None:
        """Refuses new calls and waits until all earlier ones are answered."""
        for close in self._closers:
            await close()


def _may_be_of_one(error: Exception) -> bool:
    """Whether a single request may have failed the whole batch."""
    return not isinstance(error, PandawnError) or error.reason == "DATABASE_CONFLICT"


def _settle(
    batch: list[_Entry[Req, Res]], outcome: Sequence[Res | PandawnError] | BaseException
) -> None:
    answers = [outcome] * len(batch) if isinstance(outcome, BaseException) else outcome
    for entry, answer in zip(batch, answers, strict=True):
        if entry.answer.done():
            continue
        if isinstance(answer, BaseException):
            entry.answer.set_exception(answer)
        else:
            entry.answer.set_result(answer)
