"""How long a call may wait, given the caller's wish and its deadline."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

REPLY_MARGIN = timedelta(milliseconds=500)
"""Part of the caller's deadline that is kept for the work after the wait and for sending the reply."""


class HasDeadline(Protocol):
    """The part of a gRPC servicer context that knows the caller's deadline."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None if it has none."""
        ...


def time_to_wait(context: HasDeadline, wished: timedelta) -> timedelta:
    """The wished wait, shortened so that a reply still reaches the caller before its deadline; never negative.

    Jobs leased to a caller that has just given up would stay idle until their leases expire.
    """
    if not wished:
        return wished
    remaining = context.time_remaining()
    if remaining is None:
        return wished
    return max(timedelta(0), min(wished, timedelta(seconds=remaining) - REPLY_MARGIN))
