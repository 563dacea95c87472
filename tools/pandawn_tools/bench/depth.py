"""Keeps the number of runnable jobs of a queue constant while pilots take them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg

from pandawn_tools.bench.fill import Pool

_PERIOD_S = 0.02


class DepthKeeper:
    """Makes one job of the reserve runnable for each that was taken, as if it were just submitted.

    It does so by SQL in a thread of its own, fifty times a second: one UPDATE for some tens of jobs, which
    takes the database about as much as their submission would have, and the server nothing.
    """

    def __init__(self, connection: psycopg.Connection, pool: Pool) -> None:
        """`connection` is used by the thread alone from now on."""
        self._connection = connection
        self._reserve = iter(pool.reserve_ids())
        self._taken = 0
        self._released = 0
        self.exhausted = False
        self._stop = threading.Event()

    def took_one(self) -> None:
        """Tells that a pilot got a job."""
        self._taken += 1

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keeps the depth inside the block, and makes it whole at its end."""
        self._stop.clear()
        thread = threading.Thread(target=self._keep, name="depth")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._release()

    def _keep(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self._release()

    def _release(self) -> None:
        wanted = self._taken - self._released
        ids = [job_id for job_id, _ in zip(self._reserve, range(wanted), strict=False)]
        self.exhausted = self.exhausted or len(ids) < wanted
        self._released += len(ids)
        if ids:
            self._connection.execute(
                "UPDATE jobs SET state = 'activated', state_time = %s WHERE job_id = ANY(%s)",
                (datetime.now(UTC), ids),
            )
