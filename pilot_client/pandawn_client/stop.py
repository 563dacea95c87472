"""The interface to stop the retries of a call."""

from __future__ import annotations

from typing import Protocol


class Stop(Protocol):
    """A flag that the caller sets from another thread."""

    def check(self) -> None:
        """Raises an error of the caller if the work must stop."""

    def wait(self, seconds: float) -> bool:
        """Sleeps until the work must stop, at most `seconds`; returns whether it must."""
