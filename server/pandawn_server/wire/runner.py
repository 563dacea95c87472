"""Runs synchronous use cases in a small pool of threads, away from the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Runner:
    """A pool of threads; the context of the caller (trace, log fields) goes with the work."""

    def __init__(self, threads: int) -> None:
        """`threads` should not exceed the connections of the database: they would wait for one."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="usecase")

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `fn` in a thread and returns or raises what it does.

        A caller that is cancelled stops waiting; the work itself runs to its end.
        """
        context = contextvars.copy_context()
        call = partial(context.run, fn, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def close(self) -> None:
        """Waits for all work to end. None may be given to it any more."""
        await asyncio.to_thread(self._executor.shutdown)
