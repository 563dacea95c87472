"""Runs a function periodically, and goes on after failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

import structlog

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.logs import Log
from pandawn_server.telemetry.api import OFF, Telemetry
from pandawn_server.telemetry.names import INCIDENTS, WORKER_NAME, WORKER_RUN

JITTER = 0.1
"""Fraction by which each pause varies, so that replicas do not all run at the same moment."""

_log: Log = structlog.get_logger(__name__)

T = TypeVar("T")


class Runs(Protocol):
    """Runs a function off the event loop: `wire.runner.Runner`."""

    def run(self, fn: Callable[[], T]) -> Awaitable[T]:
        """Calls `fn` in a thread, and returns or raises its result."""
        ...


class PeriodicWorker(Generic[T]):
    """A periodic loop. `fn` runs in a thread; `after` gets its result, in the event loop.

    There is no pause when `is_behind` is true of the result: there is more to do.
    """

    def __init__(
        self,
        name: str,
        interval: timedelta,
        fn: Callable[[], T],
        runner: Runs,
        *,
        after: Callable[[T], None] | None = None,
        is_behind: Callable[[T], bool] | None = None,
        telemetry: Telemetry = OFF,
        rng: random.Random | None = None,
    ) -> None:
        self._name = name
        self._interval = interval
        self._fn = fn
        self._runner = runner
        self._after = after
        self._is_behind = is_behind
        self._telemetry = telemetry
        self._rng = rng or random.Random()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the loop; the first run is immediate."""
        self._task = asyncio.get_running_loop().create_task(self._loop(), name=self._name)

    async def stop(self) -> None:
        """Waits for a run in progress to end and starts no other."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _loop(self) -> None:
        while not self._stopping.is_set():
            if await self._run_once():
                continue
            pause = self._interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
            try:
                async with asyncio.timeout(pause / timedelta(seconds=1)):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _run_once(self) -> bool:
        """Returns whether to continue without a pause."""
        with self._telemetry.observe(
            WORKER_RUN, f"worker {self._name}", {WORKER_NAME: self._name}
        ) as observation:
            try:
                result = await self._runner.run(self._fn)
                if self._after is not None:
                    self._after(result)
                return self._is_behind is not None and self._is_behind(result)
            except UnavailableError as error:
                # The database is unavailable: the next run retries, and callers get this error too.
                observation.fail(error.reason)
                _log.warning("worker run failed", worker=self._name, message=error.message)
            except Exception as error:  # noqa: BLE001 (the loop must go on)
                observation.fail(type(error).__name__)
                self._telemetry.count(INCIDENTS)
                _log.exception("worker run failed", worker=self._name)
            return False
