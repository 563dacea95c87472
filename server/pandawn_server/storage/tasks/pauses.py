"""Jobs that wait for another try: they are WAITING, and have a `retry_time`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from pandawn_server.domain.tasks.jobs import JobState
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks.schema import jobs


def due(tx: Transaction, now: datetime, limit: int) -> dict[tuple[str, str], list[int]]:
    """Up to `limit` jobs whose pause is over, the first first, by queue and user."""
    query = (
        select(jobs.c.job_id, jobs.c.queue, jobs.c.user)
        .where(jobs.c.retry_time <= now)
        .order_by(jobs.c.retry_time)
        .limit(limit)
    )
    found: dict[tuple[str, str], list[int]] = {}
    for job_id, queue, user in tx.execute(query):
        found.setdefault((queue, user), []).append(job_id)
    return found


def end(tx: Transaction, job_ids: list[int], now: datetime, *, throttled: bool) -> int:
    """Makes jobs runnable whose pause is over; returns how many. With `throttled` they wait for room below a limit."""
    chosen = (
        select(jobs.c.job_id)
        .where(
            among(tx, jobs.c.job_id, job_ids),
            jobs.c.state == JobState.WAITING.value,
            jobs.c.retry_time <= now,
        )
        .order_by(jobs.c.job_id)
        # Somebody cancels it just now.
        .with_for_update(skip_locked=True)
    )
    # Two statements, as `throttling.hold_back` has them and why.
    free = list(tx.execute(chosen).scalars())
    statement = (
        update(jobs)
        .where(among(tx, jobs.c.job_id, free), jobs.c.state == JobState.WAITING.value)
        .values(
            state=(JobState.WAITING if throttled else JobState.ACTIVATED).value,
            throttled=throttled,
            state_time=now,
            retry_time=None,
        )
    )
    return tx.execute(statement).rowcount
