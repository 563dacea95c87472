"""Runs synchronous use cases in a small thread pool, off the event loop.

A caller has at most half of the threads at a time, and waiting callers take turns: one that asks for much delays
only itself. The server's own work, and work for many callers at once, never waits for a turn.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from pandawn_server.wire.edge.caller import known_caller

P = ParamSpec("P")
T = TypeVar("T")

_OWN = ""
"""Owner of work that is the server's, an operator's, or done for many callers."""


class Runner:
    """A thread pool; the caller's context (trace, log fields) goes with the work."""

    def __init__(self, threads: int) -> None:
        """`threads` should not exceed the database's connections: more threads would wait for one."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="usecase")
        self._threads = threads
        self._share = max(1, threads // 2)
        self._running: Counter[str] = Counter()
        # Waiting callers in the order in which they are served, each with its queue.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `fn` in a thread, and returns or raises its result.

        A caller that is cancelled stops waiting; the work itself runs to its end.
        """
        who = _owner()
        if not self._may_run(who):
            await self._turn(who)
        self._running[who] += 1
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        try:
            work = self._executor.submit(context.run, partial(fn, *args, **kwargs))
        except BaseException:
            self._ended(who)
            raise
        work.add_done_callback(partial(self._report_end, loop, who))
        return await asyncio.wrap_future(work)

    async def close(self) -> None:
        """Waits for all work to end. Start no more work after this."""
        await asyncio.to_thread(self._executor.shutdown)

    def _may_run(self, who: str) -> bool:
        if who == _OWN:
            return True
        busy = self._running.total()
        return busy < self._threads and self._running[who] < self._share and not self._waiting

    async def _turn(self, who: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(turn)
        # Others may wait because they use all of their share, while there is room for this one.
        self._serve()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._running[who] -= 1
                self._serve()
            raise
        # `_serve` counted it already; from here on `run` counts it.
        self._running[who] -= 1

    def _report_end(self, loop: asyncio.AbstractEventLoop, who: str, work: Future[T]) -> None:
        del work
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._ended, who)

    def _ended(self, who: str) -> None:
        self._running[who] -= 1
        if not self._running[who]:
            del self._running[who]
        self._serve()

    def _serve(self) -> None:
        for who in list(self._waiting):
            turns = self._waiting[who]
            while turns and turns[0].done():
                turns.popleft()
            if not turns:
                del self._waiting[who]
                continue
            if self._running.total() >= self._threads:
                return
            if self._running[who] < self._share:
                self._running[who] += 1
                turns.popleft().set_result(None)
                self._waiting.move_to_end(who)


def _owner() -> str:
    caller = known_caller()
    if caller is None or caller.is_operator:
        return _OWN
    return f"{caller.method.value} {caller.name or caller.subject}"
