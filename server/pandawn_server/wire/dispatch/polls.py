"""Waiting calls for jobs: answered when the matchmaker has a job for them.

The desks know which calls wait; this module carries the answer to the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta

import structlog

from pandawn_server.domain.errors import PandawnError
from pandawn_server.logs import Log
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.dispatch.acquire import acquire_jobs, serve_polls
from pandawn_server.usecases.dispatch.desks import AcquireCall, CallKey
from pandawn_server.usecases.dispatch.doubt import Delivery
from pandawn_server.usecases.dispatch.round import AcquireAnswer
from pandawn_server.wire.edge.batcher import Batcher, Batchers
from pandawn_server.wire.edge.runner import Runner

ACQUIRE_BATCH = 64
"""Calls served in one batch: enough to share the cost of a transaction, few enough that some are answered while
the database works for others."""

ACQUIRE_CROWD = 32
"""Number of waiting calls at which a second batch starts beside the first."""

_log: Log = structlog.get_logger(__name__)

_Answered = asyncio.Future[AcquireAnswer | None]


class Polls:
    """Long polls for jobs. Use from the event loop only, except `wake` and `wake_all`."""

    def __init__(self, context: Context, runner: Runner, batchers: Batchers) -> None:
        self._context = context
        self._runner = runner
        # For each key, only the newest call gets the answer: the connections of the others broke.
        self._answers: dict[CallKey, _Answered] = {}
        self._acquire: Batcher[AcquireCall, AcquireAnswer] = batchers.make(
            "AcquireJobs",
            self._run_acquire,
            max_batch=ACQUIRE_BATCH,
            # While one batch is claimed in the database, the next is matched. SQLite has a single writer.
            concurrency=1 if context.db.is_embedded else 2,
            crowd=ACQUIRE_CROWD,
        )
        self._serve: Batcher[str, None] = batchers.make("serve-polls", self._run_serve)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._background: set[asyncio.Task[None]] = set()
        self.on_unclaimed: Callable[[Sequence[AcquireAnswer]], Awaitable[None]] = _let_expire
        """Gets the answers with jobs whose callers have gone."""

    async def acquire(self, call: AcquireCall, wait: timedelta) -> AcquireAnswer:
        """Asks for jobs; if there are none and the call waits, waits up to `wait` for some.

        Raises the use case's errors. Returns early, without jobs, when the server stops.
        """
        loop = self._loop = asyncio.get_running_loop()
        if not call.waits or self._closed:
            return await self._acquire.submit(call)
        end = loop.time() + wait / timedelta(seconds=1)
        # Before the use case sees the call: its answer may arrive before `submit` returns.
        answered: _Answered = loop.create_future()
        self._replace(call.key, answered)
        try:
            answer = await self._acquire.submit(call)
            if not answer.grants and not answer.do_not_wait and not self._closed:
                await asyncio.wait({answered}, timeout=max(0.0, end - loop.time()))
            if not answered.done() and not answer.grants:
                # After this no round answers the call; an answer from just before has arrived already.
                await self._runner.run(self._context.desks.cancel, call)
            late = answered.result() if answered.done() else None
            return late or answer
        except asyncio.CancelledError:
            if self._answers.get(call.key) is answered:
                self._start(self._runner.run(self._context.desks.cancel, call))
            late = answered.result() if _has_answer(answered) else None
            if late is not None:
                self._start(self.on_unclaimed([late]))
            raise
        finally:
            if self._answers.get(call.key) is answered:
                del self._answers[call.key]

    def wake(self, queues: Iterable[str]) -> None:
        """Tries to answer the polls of some queues. Any thread may call it."""
        due = [queue for queue in queues if self._context.desks.has_polls(queue)]
        if due and not self._closed and self._loop is not None:
            self._loop.call_soon_threadsafe(self._serve_all, due)

    def wake_all(self) -> None:
        """The same for all queues: holds may have ended, or jobs may come from other servers."""
        self.wake(self._context.desks.poll_counts())

    def close(self) -> None:
        """Ends all waits and refuses new ones, because the server stops."""
        self._closed = True
        for answered in self._answers.values():
            if not answered.done():
                answered.set_result(None)

    def _serve_all(self, queues: Iterable[str]) -> None:
        if not self._closed:
            for queue in queues:
                self._start(self._serve.submit(queue))

    def _replace(self, key: CallKey, answered: _Answered) -> None:
        earlier = self._answers.get(key)
        self._answers[key] = answered
        if earlier is not None and not earlier.done():
            earlier.set_result(None)

    def _start(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(_run_logged(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Runs in a thread of the runner.

    def _run_acquire(self, calls: Sequence[AcquireCall]) -> list[AcquireAnswer | PandawnError]:
        return acquire_jobs(self._context, calls, self._deliver)

    def _run_serve(self, queues: Sequence[str]) -> list[None]:
        serve_polls(self._context, set(queues), self._deliver)
        return [None] * len(queues)

    def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._take, deliveries)

    # Runs in the event loop again.

    def _take(self, deliveries: Iterable[Delivery]) -> None:
        unclaimed = []
        for key, answer in deliveries:
            answered = self._answers.get(key)
            if answered is not None and not answered.done():
                _set(answered, answer)
            elif not isinstance(answer, PandawnError) and answer.grants:
                unclaimed.append(answer)
        if unclaimed:
            self._start(self.on_unclaimed(unclaimed))


def _set(answered: _Answered, answer: AcquireAnswer | PandawnError) -> None:
    if isinstance(answer, PandawnError):
        answered.set_exception(answer)
        # Marks the exception as retrieved: the call may be gone before it looks.
        answered.exception()
    else:
        answered.set_result(answer)


def _has_answer(answered: _Answered) -> bool:
    return answered.done() and answered.exception() is None


async def _let_expire(unclaimed: Sequence[AcquireAnswer]) -> None:
    """The default: nobody gives the jobs back, so their leases expire."""
    _log.warning("callers gone before their answers arrived", calls=len(unclaimed))


async def _run_logged(work: Awaitable[object]) -> None:
    """Logs a failure of background work; the next wake-up makes up for it."""
    try:
        await work
    except PandawnError as error:
        _log.warning(
            "waiting calls could not be served", reason=error.reason, message=error.message
        )
