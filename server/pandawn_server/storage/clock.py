"""The time by the database's clock: the only clock for leases, claims and pauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pandawn_server.storage.types import with_zone


def ticks() -> float:
    """Seconds of a monotonic clock that continues while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def machine_time() -> datetime:
    """The time by this machine's clock, in UTC."""
    return datetime.now(UTC)


class DatabaseClock:
    """The database's time, extrapolated between measurements with a monotonic clock. Thread-safe.

    Each transaction measures it when it begins, so that steps of this machine's clock change nothing. Before the
    first measurement it is the machine's time.
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

    def measure(self, time: datetime, sent: float, received: float) -> None:
        """Takes a time that the database returned, for some moment between two values of `ticks`.

        The earlier estimate stays while it is consistent with this, so that a slow answer changes nothing.
        """
        seconds = with_zone(time).timestamp()
        earliest, latest = seconds - received, seconds - sent
        origin = self._origin
        self._origin = earliest if origin is None else min(max(origin, earliest), latest)

    def machine_is_ahead(self) -> timedelta:
        """How far this machine's clock is ahead of the database's; negative if it is behind."""
        return self._machine_time() - self()
