"""Requests that running work stops, with a reason."""

from __future__ import annotations

import threading
from enum import Enum


class StopReason(Enum):
    """Why work is stopped."""

    CANCELLED = "the server asked to stop the job"
    STALE = "the lease is over, the job may run elsewhere"
    SHUTDOWN = "the pilot is stopping at once"
    EVICTED = "the pilot is ending and has no time left for the job"


class StoppedError(Exception):
    """Raised inside work that was asked to stop."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Stop:
    """A thread-safe stop flag with a reason, which the work polls.

    STALE replaces any other reason: work whose lease is over must not be reported.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._reason: StopReason | None = None
        self._is_urgent = False

    def request(self, reason: StopReason) -> None:
        """Sets the flag. The first reason is kept, except that STALE replaces it."""
        with self._lock:
            if self._reason is None or reason is StopReason.STALE:
                self._reason = reason
        self._event.set()

    def hurry(self) -> None:
        """Makes the stop urgent: kill at once, without a warning."""
        self._is_urgent = True

    @property
    def is_urgent(self) -> bool:
        """Whether to kill at once; always so for STALE, as the job may run elsewhere by now."""
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
