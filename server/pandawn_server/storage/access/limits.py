"""How many jobs users have on queues, and which jobs a limit throttles: these are WAITING, with a mark."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select, text

from pandawn_server.domain.tasks.jobs import LEASED_STATES, QUEUED_STATES, JobState
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks.job_moves import IS_THROTTLED
from pandawn_server.storage.tasks.schema import jobs


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs of a user on a queue: `active` are runnable or with pilots, `waiting` are not with pilots yet."""

    active: int = 0
    waiting: int = 0
    running: int = 0


def lock(tx: Transaction, queue: str, user: str) -> None:
    """Locks the jobs of a user on a queue against other counts and submissions, until the transaction ends."""
    if tx.dialect.name != "sqlite":
        # SQLite has only one writer.
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


def loads_on(tx: Transaction, queues: Collection[str]) -> dict[tuple[str, str], Load]:
    """By queue and user, the jobs of each user who has runnable jobs on one of some queues."""
    states = [state.value for state in LEASED_STATES | {JobState.ACTIVATED}]
    query = (
        select(jobs.c.queue, jobs.c.user, jobs.c.state, func.count())
        .where(among(tx, jobs.c.queue, queues), jobs.c.state.in_(states))
        .group_by(jobs.c.queue, jobs.c.user, jobs.c.state)
    )
    runnable: dict[tuple[str, str], int] = {}
    running: dict[tuple[str, str], int] = {}
    for queue, user, state, count in tx.execute(query):
        found = runnable if state == JobState.ACTIVATED.value else running
        found[queue, user] = found.get((queue, user), 0) + count
    return {
        key: Load(active=count + running.get(key, 0), waiting=count, running=running.get(key, 0))
        for key, count in runnable.items()
    }


def throttled(tx: Transaction) -> set[tuple[str, str]]:
    """Queues and users with throttled jobs."""
    query = select(jobs.c.queue, jobs.c.user).where(IS_THROTTLED).distinct()
    return {(queue, user) for queue, user in tx.execute(query)}
