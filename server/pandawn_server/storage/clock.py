"""What time it is by the database's clock: the one clock for leases, claims and whatever waits for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pandawn_server.storage.types import with_zone


def ticks() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def machine_time() -> datetime:
    """The time by this machine's clock, in UTC."""
    return datetime.now(UTC)


class DatabaseClock:
    """The database's time, carried on between two measurements by a clock that nobody sets.

    Each transaction measures it as it begins, so that where this machine's clock stands, or steps to, changes
    nothing. Before the first measurement it is the machine's. Safe to share between threads.
    """

    def __init__(
        self,
        ticks: Callable[[], float] = ticks,
        machine_time: Callable[[], datetime] = machine_time,
    ) -> None:
        self._ticks = ticks
        self._machine_time = machine_time
        # Seconds since 1970 by the database's clock when `ticks` was 0; None before the first measurement.
        self._origin: float | None = None

    def __call__(self) -> datetime:
        """The time in UTC."""
        origin = self._origin
        if origin is None:
            return self._machine_time()
        return datetime.fromtimestamp(origin + self._ticks(), UTC)

    def note(self, told: datetime, asked: float, answered: float) -> None:
        """Takes in what the database said its time was, at some moment between two of `ticks`.

        What was believed before stands while it agrees with that, so that a slow answer moves nothing.
        """
        seconds = with_zone(told).timestamp()
        earliest, latest = seconds - answered, seconds - asked
        origin = self._origin
        self._origin = earliest if origin is None else min(max(origin, earliest), latest)

    def machine_is_ahead(self) -> timedelta:
        """How far this machine's clock is ahead of the database's; negative where it is behind."""
        return self._machine_time() - self()
