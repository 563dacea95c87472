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
    """A live lease with what the rules need to know of its job."""

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
        """Whether its pilot has said that it got the job: a renewal notes the phase."""
        return self.phase is not None


def is_current(lease: Lease | None, attempt: int, token: str) -> bool:
    """Whether somebody who shows (attempt, token) holds the live lease of the job.

    The comparison takes the same time wherever the tokens differ, so that none can be guessed
    byte by byte.
    """
    return (
        lease is not None
        and lease.attempt == attempt
        and hmac.compare_digest(lease.token.encode(), token.encode())
    )


FIRST_LEASE = timedelta(seconds=10)
"""For how long a job is a pilot's that has not said yet that it got it: the answer may have gone into a
connection that was dead, and the job shall not wait for a whole lease then."""


def first_lease(duration: timedelta) -> timedelta:
    """For how long a hand-out holds until the pilot renews its lease, which has `duration` from then on."""
    return min(FIRST_LEASE, duration)


REAPER_PAUSE_FACTOR = 3
"""A reaper that comes back after this many of its intervals was away: so were all servers, perhaps."""


def server_was_away(last_run: datetime | None, now: datetime, interval: timedelta) -> bool:
    """Whether leases may have lapsed only because no server was there to renew them.

    Or because the database was not, or nobody got at it. Then pilots get one more lease length to come back
    before their jobs are given away.
    """
    return last_run is None or now - last_run > interval * REAPER_PAUSE_FACTOR


def clock_went_back(last_run: datetime | None, now: datetime) -> bool:
    """Whether the database's clock was set back, so that leases end later than they should."""
    return last_run is not None and last_run > now


def stale_lease(job_id: int, attempt: int) -> PreconditionError:
    """The error for a token that is not, or no longer, the job's live lease."""
    return PreconditionError(
        "STALE_LEASE",
        f"attempt {attempt} of job {job_id} is over: its lease lapsed or was ended; stop the job and drop it",
        metadata={"job_id": str(job_id), "attempt": str(attempt)},
    )
