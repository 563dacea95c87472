"""What the server knows about a pilot."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import NotFoundError
from pandawn_server.domain.tasks.jobs import Requirements

LOST_AFTER_LEASES = 2
"""A pilot without jobs is lost after this many lease lengths without contact."""

HOLDS_FOR = timedelta(minutes=2)
"""After this time without contact from a node's pilots another machine may take its name: it may be a new install."""

CONTACT_RESOLUTION = timedelta(seconds=5)
"""Contacts closer together than this are recorded once, or every call would write to the table."""

LONGEST_CONTACT_RESOLUTION = timedelta(seconds=30)
"""The same for long leases: the contact times in a list of pilots must be recent enough to trust."""


class PilotState(Enum):
    """The state of a pilot."""

    LIVE = "live"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Pilot:
    """A pilot; `offer` is what it last offered to jobs: memory, disk, time and the like."""

    pilot_id: str
    queue: str
    key: NodeKey
    host: str
    pilot_version: str
    batch_id: str
    transports: tuple[str, ...]
    state: PilotState
    register_time: datetime
    contact_time: datetime
    end_reason: str = ""
    offer: Requirements = field(default_factory=Requirements)

    def contact_is_due(self, now: datetime, lease: timedelta = CONTACT_RESOLUTION) -> bool:
        """Whether the last recorded contact is old enough to record another, given the length of a lease."""
        return now - self.contact_time >= contact_resolution(lease)


def contact_resolution(lease: timedelta) -> timedelta:
    """The least time between two recorded contacts, given the length of a lease.

    A pilot is lost only after `LOST_AFTER_LEASES` leases, so a quarter of one makes no difference.
    """
    return max(CONTACT_RESOLUTION, min(lease / 4, LONGEST_CONTACT_RESOLUTION))


@dataclass(frozen=True, slots=True)
class PilotFilter:
    """Which pilots to list; an empty queue means all queues."""

    queue: str = ""
    include_ended: bool = False


def pilot_not_found(pilot_id: str) -> NotFoundError:
    """The error for a pilot that never registered, has ended, or is lost."""
    return NotFoundError(
        "PILOT_NOT_FOUND",
        f"pilot {pilot_id!r} is unknown, has ended, or sent no heartbeat for too long; register again",
        metadata={"pilot_id": pilot_id},
    )
