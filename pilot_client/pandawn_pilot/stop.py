"""Asking running work to stop, and saying why."""

from __future__ import annotations

import threading
from enum import Enum


class StopReason(Enum):
    """Why work is stopped."""

    CANCELLED = "the server asked to stop the job"
    STALE = "the lease is over, the job belongs to somebody else"
    SHUTDOWN = "the pilot was told to stop at once"
    EVICTED = "the pilot was told to end, and has no time left for the job"


class StoppedError(Exception):
    """Raised inside work that was asked to stop."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Stop:
    """A flag with a reason. Set once by whoever wants the work to end, looked at by the work.

    STALE beats the other reasons whenever it comes: work whose lease is over must not be reported.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._reason: StopReason | None = None
        self._is_urgent = False

    def request(self, reason: StopReason) -> None:
        """Asks for the end. The first reason is kept, but for STALE."""
        with self._lock:
            if self._reason is None or reason is StopReason.STALE:
                self._reason = reason
        self._event.set()

    def hurry(self) -> None:
        """Lets work that was asked to stop end without politeness."""
        self._is_urgent = True

    @property
    def is_urgent(self) -> bool:
        """Whether there is no time for politeness: to nobody, when somebody else has the job by now."""
        return self._is_urgent or self.reason is StopReason.STALE

    @property
    def reason(self) -> StopReason | None:
        """Why the work should stop; None while it should not."""
        with self._lock:
            return self._reason

    def check(self) -> None:
        """Raises StoppedError if the work was asked to stop."""
        reason = self.reason
        if reason is not None:
            raise StoppedError(reason)

    def sleep(self, seconds: float) -> None:
        """Sleeps, and raises StoppedError as soon as the work is asked to stop."""
        self._event.wait(seconds)
        self.check()

    def wait(self, seconds: float) -> bool:
        """Sleeps until asked to stop, at most `seconds`; returns whether it was asked."""
        return self._event.wait(seconds)
