"""How long a call may wait, given what the caller allows and when it hangs up."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

REPLY_MARGIN = timedelta(milliseconds=500)
"""Kept of the caller's deadline for the work after the wait and the way back of the reply."""


class HasDeadline(Protocol):
    """The part of a gRPC servicer context that knows the caller's deadline."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None when it set no deadline."""
        ...


def time_to_wait(context: HasDeadline, wished: timedelta) -> timedelta:
    """The wish, cut so that an empty reply still reaches a caller with a deadline; never negative.

    Jobs that are leased to a caller who has just hung up would stay idle until their lease lapses.
    """
    if not wished:
        return wished
    remaining = context.time_remaining()
    if remaining is None:
        return wished
    return max(timedelta(0), min(wished, timedelta(seconds=remaining) - REPLY_MARGIN))
