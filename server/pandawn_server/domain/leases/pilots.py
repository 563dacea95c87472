"""What the server knows of a pilot."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import NotFoundError
from pandawn_server.domain.tasks.jobs import Requirements

LOST_AFTER_LEASES = 2
"""A pilot without jobs that was silent for this many lease lengths is lost."""

HOLDS_FOR = timedelta(minutes=2)
"""Silence of a node's pilots after which another machine may have its name: it may have been set up anew."""

CONTACT_RESOLUTION = timedelta(seconds=5)
"""Contacts closer together than this are noted once: the table would be rewritten by every call."""

LONGEST_CONTACT_RESOLUTION = timedelta(seconds=30)
"""The same where leases are long; somebody who looks at a list of pilots does not want to doubt them."""


class PilotState(Enum):
    """Where a pilot stands."""

    LIVE = "live"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Pilot:
    """A pilot; `offer` is what it last said that a job may use on its node."""

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
        """Whether the last noted contact is old enough to note another, given the length of a lease."""
        return now - self.contact_time >= contact_resolution(lease)


def contact_resolution(lease: timedelta) -> timedelta:
    """How close together contacts are noted once, given the length of a lease.

    A pilot is lost after `LOST_AFTER_LEASES` of silence: a quarter of one makes no difference.
    """
    return max(CONTACT_RESOLUTION, min(lease / 4, LONGEST_CONTACT_RESOLUTION))


@dataclass(frozen=True, slots=True)
class PilotFilter:
    """Which pilots to list; an empty queue is any."""

    queue: str = ""
    include_ended: bool = False


def pilot_not_found(pilot_id: str) -> NotFoundError:
    """The error for a pilot that never registered, has ended, or was silent for too long."""
    return NotFoundError(
        "PILOT_NOT_FOUND",
        f"pilot {pilot_id!r} is not known, has ended, or was silent for too long; register again",
        metadata={"pilot_id": pilot_id},
    )
