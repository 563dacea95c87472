"""The interface to stop a transfer."""

from __future__ import annotations

import time
from typing import Protocol


class Stop(Protocol):
    """A flag that the caller of a transfer sets from another thread."""

    def check(self) -> None:
        """Raises an error of the caller if the work must stop."""

    def sleep(self, seconds: float) -> None:
        """Sleeps; raises the caller's error as soon as the work must stop."""

    def wait(self, seconds: float) -> bool:
        """Sleeps until the work must stop, at most `seconds`; returns whether it must."""


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
