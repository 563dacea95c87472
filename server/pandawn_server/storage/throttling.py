"""Jobs that a limit of their user keeps from becoming runnable: they are WAITING, and marked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text, update

from pandawn_server.domain.jobs import LEASED_STATES, QUEUED_STATES, JobState
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.schema import jobs

_THROTTLED = text("jobs.throttled")
"""As the condition of the index says it, or SQLite would not see that they are the same."""


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs of a user on a queue: `active` are runnable or with pilots, `waiting` are not with pilots yet."""

    active: int = 0
    waiting: int = 0
    running: int = 0


def lock(tx: Transaction, queue: str, user: str) -> None:
    """Lets nobody else count and add jobs of a user on a queue until the end of the transaction."""
    if tx.dialect.name != "sqlite":
        # SQLite has one writer.
        tx.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"pandawn jobs of {user} on {queue}"},
        )


def load_of(tx: Transaction, queue: str, user: str) -> Load:
    """The jobs of a user on a queue that have not ended."""
    query = (
        select(jobs.c.state, func.count())
        .where(
            jobs.c.queue == queue,
            jobs.c.user == user,
            jobs.c.state.in_([state.value for state in QUEUED_STATES | LEASED_STATES]),
        )
        .group_by(jobs.c.state)
    )
    counts = {JobState(state): count for state, count in tx.execute(query)}
    running = sum(counts.get(state, 0) for state in LEASED_STATES)
    return Load(
        active=running + counts.get(JobState.ACTIVATED, 0),
        waiting=sum(counts.get(state, 0) for state in QUEUED_STATES),
        running=running,
    )


def throttled(tx: Transaction) -> set[tuple[str, str]]:
    """Queues and users with throttled jobs."""
    query = select(jobs.c.queue, jobs.c.user).where(_THROTTLED).distinct()
    return {(queue, user) for queue, user in tx.execute(query)}


def release(tx: Transaction, queue: str, user: str, most: int | None, now: datetime) -> int:
    """Makes up to `most` (None: all) throttled jobs runnable, by priority and age; returns how many."""
    chosen = (
        select(jobs.c.job_id)
        .where(_THROTTLED, jobs.c.queue == queue, jobs.c.user == user)
        .order_by(jobs.c.priority.desc(), jobs.c.job_id)
        .limit(most)
    )
    statement = (
        update(jobs)
        .where(jobs.c.job_id.in_(chosen), jobs.c.state == JobState.WAITING.value)
        .values(state=JobState.ACTIVATED.value, state_time=now, throttled=False)
    )
    return tx.execute(statement).rowcount
