"""How work in progress is told to stop."""

from __future__ import annotations

import time
from typing import Protocol


class Stop(Protocol):
    """What the caller of a transfer has, and sets from another thread to end it."""

    def check(self) -> None:
        """Raises an error of the caller's own if the work is to stop."""

    def sleep(self, seconds: float) -> None:
        """Sleeps; raises the caller's own error as soon as the work is to stop."""

    def wait(self, seconds: float) -> bool:
        """Sleeps until the work is to stop, at most `seconds`; returns whether it is."""


class NeverStop:
    """For work that only Ctrl-C ends."""

    def check(self) -> None:
        """Returns."""

    def sleep(self, seconds: float) -> None:
        """Sleeps."""
        time.sleep(seconds)

    def wait(self, seconds: float) -> bool:
        """Sleeps; returns False."""
        time.sleep(seconds)
        return False
