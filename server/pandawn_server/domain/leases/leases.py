"""The right of one pilot to one attempt at one job."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import PreconditionError
from pandawn_server.domain.tasks.jobs import JobKind, JobState, Phase


@dataclass(frozen=True, slots=True)
class Lease:
    """A live lease, with the facts about its job that the rules need."""

    job_id: int
    attempt: int
    token: str
    pilot_id: str
    key: NodeKey
    expire_time: datetime
    duration: timedelta
    phase: Phase | None
    job_state: JobState
    job_kind: JobKind
    task_id: int
    cancel_requested: bool

    @property
    def is_acknowledged(self) -> bool:
        """Whether its pilot has confirmed the job: the first renewal sets the phase."""
        return self.phase is not None


def is_current(lease: Lease | None, attempt: int, token: str) -> bool:
    """Whether `attempt` and `token` are those of the job's live lease.

    The comparison takes constant time, so that a token cannot be guessed byte by byte.
    """
    return (
        lease is not None
        and lease.attempt == attempt
        and hmac.compare_digest(lease.token.encode(), token.encode())
    )


FIRST_LEASE = timedelta(seconds=10)
"""Length of a lease that the pilot has not acknowledged yet. The answer may have been lost on a dead connection,
and then the job should not wait for a whole lease."""


def first_lease(duration: timedelta) -> timedelta:
    """The length of a new lease until its first renewal, from which on it has `duration`."""
    return min(FIRST_LEASE, duration)


REAPER_PAUSE_FACTOR = 3
"""After a gap of this many intervals between two runs of the reaper, perhaps no server was running."""


def server_was_away(last_run: datetime | None, now: datetime, interval: timedelta) -> bool:
    """Whether leases may have lapsed only because no server or no database was available to renew them.

    Pilots then get one more lease length to come back before their jobs go to others.
    """
    return last_run is None or now - last_run > interval * REAPER_PAUSE_FACTOR


def clock_went_back(last_run: datetime | None, now: datetime) -> bool:
    """Whether the database's clock was set back, so that leases end later than they should."""
    return last_run is not None and last_run > now


def stale_lease(job_id: int, attempt: int) -> PreconditionError:
    """The error for a token that is not that of the job's live lease, or no longer is."""
    return PreconditionError(
        "STALE_LEASE",
        f"attempt {attempt} of job {job_id} is over: its lease lapsed or was revoked; stop the job and drop it",
        metadata={"job_id": str(job_id), "attempt": str(attempt)},
    )
