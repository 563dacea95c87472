"""What a queue is: its parameters with defaults and bounds, and whether it takes work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeVar

from pandawn_server.domain.errors import Violation

MIB = 1024**2
GIB = 1024**3

LONGEST_HEARTBEAT = timedelta(seconds=10)
"""Somebody who cancels a job wants to see it end in seconds. The price: a thousand pilots make a hundred
calls a second, which the server takes in few transactions."""


class QueueStatus(Enum):
    """Whether a queue takes work."""

    ONLINE = "online"
    OFFLINE = "offline"
    TEST = "test"
    BROKEROFF = "brokeroff"


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The parameters of a queue as somebody set them; None is *unset*, which is not zero."""

    site: str | None = None
    cloud: str | None = None
    status: QueueStatus | None = None
    max_input_bytes: int | None = None
    max_work_dir_bytes: int | None = None
    max_wall_time: timedelta | None = None
    memory_bytes: int | None = None
    cores: int | None = None
    storage_root: str | None = None
    lease_duration: timedelta | None = None
    locality_wait: timedelta | None = None
    priority_band: int | None = None


SETTING_NAMES = tuple(field.name for field in fields(QueueSettings))
"""Names of all parameters, as in the contract."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with every parameter filled in. Sizes in bytes; 0 means no limit where the contract says so."""

    name: str
    site: str
    cloud: str
    status: QueueStatus
    max_input_bytes: int
    max_work_dir_bytes: int
    max_wall_time: timedelta
    memory_bytes: int
    cores: int
    storage_root: str
    lease_duration: timedelta
    locality_wait: timedelta
    priority_band: int
    etag: str
    update_time: datetime

    @property
    def heartbeat_interval(self) -> timedelta:
        """Time between heartbeats: a third of a lease, so that two may be lost before it lapses.

        Never longer than `LONGEST_HEARTBEAT`, for a cancel reaches a job with the next one.
        """
        return min(self.lease_duration / 3, LONGEST_HEARTBEAT)


_T = TypeVar("_T")


def _given(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def effective_queue(name: str, settings: QueueSettings, etag: str, update_time: datetime) -> Queue:
    """Fills unset parameters with their defaults; the sizes are the slides' (14336 MiB of input)."""
    return Queue(
        name=name,
        site=_given(settings.site, name),
        cloud=_given(settings.cloud, ""),
        status=_given(settings.status, QueueStatus.ONLINE),
        max_input_bytes=_given(settings.max_input_bytes, 14336 * MIB),
        max_work_dir_bytes=_given(settings.max_work_dir_bytes, 32 * GIB),
        max_wall_time=_given(settings.max_wall_time, timedelta(days=4)),
        memory_bytes=_given(settings.memory_bytes, 0),
        cores=_given(settings.cores, 1),
        storage_root=_given(settings.storage_root, ""),
        lease_duration=_given(settings.lease_duration, timedelta(minutes=10)),
        locality_wait=_given(settings.locality_wait, timedelta(0)),
        priority_band=_given(settings.priority_band, 100),
        etag=etag,
        update_time=update_time,
    )


def merged(old: QueueSettings, new: QueueSettings, mask: Iterable[str]) -> QueueSettings:
    """`old` with the parameters named in `mask` taken from `new`, unset ones included."""
    return replace(old, **{name: getattr(new, name) for name in mask})


BOUNDS: dict[str, tuple[int | timedelta, int | timedelta]] = {
    "max_input_bytes": (0, 2**60),
    "max_work_dir_bytes": (0, 2**60),
    "max_wall_time": (timedelta(seconds=1), timedelta(days=30)),
    "memory_bytes": (0, 2**50),
    "cores": (1, 100_000),
    "lease_duration": (timedelta(seconds=5), timedelta(days=1)),
    "locality_wait": (timedelta(0), timedelta(hours=1)),
    "priority_band": (1, 10_000),
}
"""Smallest and largest value of each numeric parameter."""


def setting_violations(settings: QueueSettings) -> list[Violation]:
    """Everything out of bounds in `settings`; names and URLs are checked where they come in."""
    found = []
    for name, (low, high) in BOUNDS.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            found.append(
                Violation(f"queue.{name}", f"must be between {low} and {high}, is {value}")
            )
    return found
