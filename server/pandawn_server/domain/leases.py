"""The right of one pilot to one attempt at one job."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from pandawn_server.domain.inventory import NodeKey
from pandawn_server.domain.jobs import JobKind, JobState, Phase


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


REAPER_PAUSE_FACTOR = 3
"""A reaper that comes back after this many of its intervals was away: so were all servers, perhaps."""


def server_was_away(last_run: datetime | None, now: datetime, interval: timedelta) -> bool:
    """Whether leases may have lapsed only because no server was there to renew them.

    Then pilots get one more lease length to come back before their jobs are given away.
    """
    return last_run is None or now - last_run > interval * REAPER_PAUSE_FACTOR
