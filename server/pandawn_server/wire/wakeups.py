"""Wakes long polls: calls that wait for a job of their queue to become runnable.

Only within one process, and only a hint. Whoever waits looks again after each wake-up and once in a
while without one, for jobs that another server made runnable.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(slots=True)
class _Queue:
    """Waiters in the order of their arrival, and the number of notifications so far."""

    # A dict for its order and its cheap removal.
    waiters: dict[asyncio.Future[bool], None] = field(default_factory=dict)
    generation: int = 0


class Wakeups:
    """Waiting calls by queue. To be used from the event loop only."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._closed = False

    def generation(self, queue: str) -> int:
        """A number that changes with each notification; take it before looking for work."""
        return self._queue(queue).generation

    async def wait(self, queue: str, at_most: timedelta, since: int | None = None) -> bool:
        """Waits for a notification of the queue: True if there was one, False after `at_most`.

        With `since`, a number from `generation`, a notification after that number counts too: so
        none is missed between looking for work and waiting for it. Returns at once (False) when
        the server stops.
        """
        state = self._queue(queue)
        if since is not None and since != state.generation:
            return True
        if self._closed or at_most <= timedelta(0):
            return False
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[bool] = loop.create_future()
        state.waiters[woken] = None
        timer = loop.call_later(at_most / timedelta(seconds=1), _resolve, woken)
        try:
            return await woken
        except asyncio.CancelledError:
            if woken.done() and not woken.cancelled() and woken.result():
                # Woken and cancelled at once: the next in line gets the wake-up.
                self._wake(state, 1)
            raise
        finally:
            timer.cancel()
            state.waiters.pop(woken, None)

    def notify(self, queue: str, count: int | None = None) -> None:
        """Wakes the `count` calls that have waited longest (as many as there are jobs), or all."""
        state = self._queue(queue)
        state.generation += 1
        self._wake(state, len(state.waiters) if count is None else count)

    def waiting_queues(self) -> dict[str, int]:
        """Queues with waiting calls, and how many."""
        # A copy, for telemetry asks from another thread.
        queues = list(self._queues.items())
        return {name: len(state.waiters) for name, state in queues if state.waiters}

    def close(self) -> None:
        """Ends all waits, and lets none begin: the server stops."""
        self._closed = True
        for state in self._queues.values():
            for woken in list(state.waiters):
                _resolve(woken)

    def _queue(self, name: str) -> _Queue:
        state = self._queues.get(name)
        if state is None:
            state = self._queues[name] = _Queue()
        return state

    @staticmethod
    def _wake(state: _Queue, count: int) -> None:
        while count > 0 and state.waiters:
            woken = next(iter(state.waiters))
            del state.waiters[woken]
            if _resolve(woken, notified=True):
                count -= 1


def _resolve(woken: asyncio.Future[bool], *, notified: bool = False) -> bool:
    if woken.done():
        return False
    woken.set_result(notified)
    return True
