"""Counts of jobs for the monitor."""

from __future__ import annotations

from sqlalchemy import func, select

from pandawn_server.domain.tasks.jobs import JobCount, JobState
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks.schema import jobs


def count_jobs(tx: Transaction, queue: str, user: str) -> list[JobCount]:
    """Counts jobs by queue, state and user, without those that a retry replaced; empty filters match all."""
    query = (
        select(jobs.c.queue, jobs.c.state, jobs.c.user, func.count())
        .where(jobs.c.retry_job_id.is_(None))
        .group_by(jobs.c.queue, jobs.c.state, jobs.c.user)
        .order_by(jobs.c.queue, jobs.c.state, jobs.c.user)
    )
    if queue:
        query = query.where(jobs.c.queue == queue)
    if user:
        query = query.where(jobs.c.user == user)
    return [JobCount(q, JobState(s), u, n) for q, s, u, n in tx.execute(query)]
