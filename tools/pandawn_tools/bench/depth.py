"""Keeps the number of runnable jobs of a queue constant while pilots acquire them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from pandawn_tools.bench.databases import BenchDatabase
from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.rows import Pool


class DepthKeeper:
    """Makes one job of the reserve runnable for each job that was acquired, as if it had just been submitted.

    It uses SQL in its own thread, many times a second: one UPDATE for some tens of jobs, which costs the
    database less than their submission, and the server under test nothing.
    """

    def __init__(self, database: BenchDatabase, pool: Pool) -> None:
        self._database = database
        self._pool = pool
        self._reserve = iter(pool.reserve_ids)
        self._taken = 0
        self._released = 0
        self._stop = threading.Event()
        self._problem: Exception | None = None

    def took_one(self) -> None:
        """Records that a pilot got a job."""
        self._taken += 1

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keeps the depth constant inside the block, and restores it completely at the end.

        Raises `BenchError` if the reserve was exhausted.
        """
        self._stop.clear()
        thread = threading.Thread(target=self._keep, name="depth")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        if self._problem is not None:
            raise self._problem
        self._release()

    def _keep(self) -> None:
        try:
            while not self._stop.wait(self._database.release_period_s):
                self._release()
        except Exception as error:  # noqa: BLE001 (raised again by `keeping`)
            self._problem = error

    def _release(self) -> None:
        wanted = self._taken - self._released
        ids = list(islice(self._reserve, wanted))
        if len(ids) < wanted:
            raise BenchError(
                f"the {self._pool.reserve:,} jobs in reserve of {self._pool.queue} did not last; "
                "shorter or fewer slices, or more --reserve"
            )
        self._released += wanted
        if ids:
            self._database.release(ids)
