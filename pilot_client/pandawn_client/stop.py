"""How a call that is being repeated is told to stop."""

from __future__ import annotations

from typing import Protocol


class Stop(Protocol):
    """What a caller has, and sets from another thread to end the waiting."""

    def check(self) -> None:
        """Raises an error of the caller's own if the work is to stop."""

    def wait(self, seconds: float) -> bool:
        """Sleeps until the work is to stop, at most `seconds`; returns whether it is."""
