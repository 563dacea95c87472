"""Runnable jobs for the matchmaker: the newest, or page by page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    FromClause,
    Integer,
    Select,
    bindparam,
    literal_column,
    select,
    tuple_,
)

from pandawn_server.domain.tasks.jobs import JobKind, JobState, Requirements
from pandawn_server.storage.among import among
from pandawn_server.storage.columns import span
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks.schema import job_inputs, jobs, tasks

# A literal, because with a parameter a generic plan could use neither partial index of runnable jobs and read
# the whole table. Limits are literals for the same reason.
_IS_RUNNABLE = jobs.c.state == literal_column(f"'{JobState.ACTIVATED.value}'")

PackedFiles = Sequence[Sequence[Any]]
"""The files of a job as its row stores them; see `storage.files.pack`."""


class Arrival(NamedTuple):
    """A position in the order in which jobs became runnable."""

    state_time: datetime
    job_id: int


class Rank(NamedTuple):
    """A position in the order of priority (highest first) and age."""

    priority: int
    job_id: int


class RunnableRow(NamedTuple):
    """A runnable job with its files; `library_bytes` is None if it reads no library.

    `test` is set for jobs of test tasks; `avoided` are the nodes on which it failed before.
    """

    job_id: int
    task_id: int
    priority: int
    state_time: datetime
    requirements: Requirements
    files: PackedFiles
    library_bytes: int | None
    test: bool
    avoided: tuple[str, ...]
    user: str


def last_arrival(tx: Transaction, queue: str) -> Arrival | None:
    """The job of a queue that became runnable last; None if none is runnable."""
    query = (
        select(jobs.c.state_time, jobs.c.job_id)
        .where(jobs.c.queue == queue, _IS_RUNNABLE)
        .order_by(jobs.c.state_time.desc(), jobs.c.job_id.desc())
        .limit(1)
    )
    row = tx.execute(query).first()
    return None if row is None else Arrival(*row)


def ranked_after(
    tx: Transaction, queue: str, after: Rank | None, limit: int, *, tests_only: bool = False
) -> list[Rank]:
    """Up to `limit` runnable jobs of a queue after a position, by priority and age.

    With `tests_only`, only jobs of test tasks, however many others there are.
    """
    query = (
        select(jobs.c.priority, jobs.c.job_id)
        .where(jobs.c.queue == queue, _IS_RUNNABLE)
        .order_by(jobs.c.priority.desc(), jobs.c.job_id)
    )
    if tests_only:
        query = query.join(tasks, tasks.c.task_id == jobs.c.task_id).where(tasks.c.test)
    if after is None:
        return [Rank(*row) for row in tx.execute(query.limit(limit))]
    # Two queries: each is one range of the index, which a combined condition would not be.
    same = query.where(jobs.c.priority == after.priority, jobs.c.job_id > after.job_id)
    found = [Rank(*row) for row in tx.execute(same.limit(limit))]
    if len(found) < limit:
        lower = query.where(jobs.c.priority < after.priority).limit(limit - len(found))
        found += [Rank(*row) for row in tx.execute(lower)]
    return found


def still_runnable(tx: Transaction, job_ids: Collection[int]) -> set[int]:
    """Those of the jobs that are runnable."""
    query = select(jobs.c.job_id).where(among(tx, jobs.c.job_id, job_ids), _IS_RUNNABLE)
    return set(tx.execute(query).scalars())


def _runnable(of: FromClause) -> Select[Any]:
    return (
        select(
            jobs.c.job_id,
            jobs.c.task_id,
            jobs.c.priority,
            jobs.c.state_time,
            jobs.c.memory_bytes,
            jobs.c.cores,
            jobs.c.disk_bytes,
            jobs.c.wall_time_s,
            jobs.c.kind,
            jobs.c.avoided,
            job_inputs.c.files,
            tasks.c.library_bytes,
            tasks.c.test,
            jobs.c.user,
        )
        .select_from(of)
        .join(tasks, tasks.c.task_id == jobs.c.task_id)
        .outerjoin(job_inputs, job_inputs.c.job_id == jobs.c.job_id)
    )


def _arrived(first: Select[Any]) -> Select[Any]:
    """Query for runnable jobs in the order in which they became so; the limit applies before the joins."""
    limited = (
        first.where(jobs.c.queue == bindparam("queue"), _IS_RUNNABLE)
        .order_by(jobs.c.state_time, jobs.c.job_id)
        .limit(bindparam("limit", type_=Integer, literal_execute=True))
        .subquery("arrived")
    )
    of = limited.join(jobs, jobs.c.job_id == limited.c.job_id)
    return _runnable(of).order_by(limited.c.state_time, limited.c.job_id)


# Built once: each batch of calls runs them.
_ARRIVALS = select(jobs.c.state_time, jobs.c.job_id)
_FIRST_ARRIVED = _arrived(_ARRIVALS)
_ARRIVED_SINCE = _arrived(
    # Compared as one tuple: the database seeks in the index, however many jobs became runnable at once.
    _ARRIVALS.where(
        tuple_(jobs.c.state_time, jobs.c.job_id)
        > tuple_(
            bindparam("state_time", type_=jobs.c.state_time.type),
            bindparam("job_id", type_=BigInteger()),
        )
    )
)


def arrived_since(
    tx: Transaction, queue: str, after: Arrival | None, limit: int
) -> list[RunnableRow]:
    """Up to `limit` jobs of a queue that became runnable after a position, in that order."""
    found = (
        tx.execute(_FIRST_ARRIVED, {"queue": queue, "limit": limit})
        if after is None
        else tx.execute(_ARRIVED_SINCE, {"queue": queue, "limit": limit, **after._asdict()})
    )
    return _to_jobs(found)


def get_runnable(
    tx: Transaction, job_ids: Collection[int], *, tests_only: bool = False
) -> list[RunnableRow]:
    """Those of the jobs that are runnable, by priority and age; with `tests_only`, jobs of test tasks."""
    if not job_ids:
        return []
    query = (
        _runnable(jobs)
        .where(among(tx, jobs.c.job_id, job_ids), _IS_RUNNABLE)
        .order_by(jobs.c.priority.desc(), jobs.c.job_id)
    )
    if tests_only:
        query = query.where(tasks.c.test)
    return _to_jobs(tx.execute(query))


def _to_jobs(rows: Iterable[Any]) -> list[RunnableRow]:
    run = JobKind.RUN.value
    return [
        RunnableRow(
            job_id,
            task_id,
            priority,
            state_time,
            _requirements(memory, cores, disk, wall_time),
            files or (),
            library_bytes if kind == run else None,
            test,
            tuple(avoided or ()),
            user,
        )
        for (
            job_id,
            task_id,
            priority,
            state_time,
            memory,
            cores,
            disk,
            wall_time,
            kind,
            avoided,
            files,
            library_bytes,
            test,
            user,
        ) in rows
    ]


@lru_cache(4096)
def _requirements(
    memory: int | None, cores: int | None, disk: int | None, wall_time: float | None
) -> Requirements:
    # Cached, because jobs of a task are alike.
    return Requirements(memory, cores, disk, span(wall_time))
