"""What the pilot's threads leave to a thread that may wait for a disk, or for the server, in their place.

A disk that hangs must not hold up heartbeats. What is lost when the pilot dies before a chore is done
is a convenience of its next life.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from pandawn_pilot.logs import Log

# More than ever wait, unless the disk hangs: then those that come are dropped.
_MOST = 100


class Chores:
    """Does what it is given, one after the other, in a thread of its own."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: queue.Queue[Callable[[], None]] = queue.Queue(_MOST)
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)
        self._thread.start()

    def later(self, work: Callable[[], None]) -> None:
        """Lets something be done soon; returns at once."""
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            self._log.warning("the disk of the work directory does not answer")

    def within(self, seconds: float, work: Callable[[], None]) -> bool:
        """Lets something be done now, and waits for it, but no longer than so; whether it was done."""
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
                self._log.warning("the work directory cannot be written: %s", error)
            except Exception:  # noqa: BLE001 (a worker loop)
                self._log.exception("a chore met an error of the pilot's own")
