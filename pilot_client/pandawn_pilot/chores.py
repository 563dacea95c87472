"""A background thread for work that may block on a disk or on the server.

A disk that hangs must not delay heartbeats. If the pilot dies before a chore is done, its next run only
loses a convenience.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from pandawn_pilot.logs import Log

# Never reached unless the disk hangs; further chores are dropped then.
_MOST = 100


class Chores:
    """Runs chores in order in one background thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: queue.Queue[Callable[[], None]] = queue.Queue(_MOST)
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)
        self._thread.start()

    def later(self, work: Callable[[], None]) -> None:
        """Queues `work` and returns at once; drops it if the queue is full."""
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            self._log.warning(
                "the disk of the work directory does not respond; a background write was dropped"
            )

    def within(self, seconds: float, work: Callable[[], None]) -> bool:
        """Queues `work` and waits for it, at most `seconds`; returns whether it was done."""
        done = threading.Event()

        def run() -> None:
            try:
                work()
            finally:
                done.set()

        self.later(run)
        return done.wait(seconds)

    def _run(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            except OSError as error:
                self._log.warning("cannot write to the work directory: %s", error)
            except Exception:  # noqa: BLE001 (a worker loop)
                self._log.exception("a background chore failed with an internal error")
