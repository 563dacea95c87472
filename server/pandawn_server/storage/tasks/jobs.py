"""Jobs: inserts, reads and counts them. `job_moves` changes their states."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, func, select, text

from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.domain.tasks.jobs import (
    FINAL_STATES,
    Job,
    JobFilter,
    JobKind,
    JobState,
    Phase,
)
from pandawn_server.domain.tasks.tasks import NewJob, TaskSpec
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.columns import (
    requirement_columns,
    to_error,
    to_requirements,
)
from pandawn_server.storage.database import Transaction, effects_of
from pandawn_server.storage.leases.schema import attempts, leases, pilots
from pandawn_server.storage.tasks.labels import has_labels
from pandawn_server.storage.tasks.schema import jobs


def _select_jobs() -> Select[Any]:
    # Node and phase are columns of the attempt and the lease, which the hot path writes anyway.
    return (
        select(jobs, attempts.c.node, leases.c.phase)
        .outerjoin(
            attempts, (attempts.c.job_id == jobs.c.job_id) & (attempts.c.attempt == jobs.c.attempt)
        )
        .outerjoin(leases, leases.c.job_id == jobs.c.job_id)
    )


def _to_job(row: RowMapping) -> Job:
    return Job(
        job_id=row["job_id"],
        task_id=row["task_id"],
        index=row["index"],
        kind=JobKind(row["kind"]),
        state=JobState(row["state"]),
        user=row["user"],
        queue=row["queue"],
        priority=row["priority"],
        attempt=row["attempt"],
        failures=row["failures"],
        max_attempts=row["max_attempts"],
        input_bytes=row["input_bytes"],
        create_time=row["create_time"],
        state_time=row["state_time"],
        requirements=to_requirements(row),
        node=row["node"] or "",
        phase=None if row["phase"] is None else Phase(row["phase"]),
        bytes_from_cache=row["bytes_from_cache"],
        error=to_error(row),
        parent_job_id=row["parent_job_id"],
        retry_job_id=row["retry_job_id"],
        cancel_requested=row["cancel_requested"],
        throttled=row["throttled"],
        losses=row["losses"],
        retry_time=row["retry_time"],
        avoided=tuple(row["avoided"] or ()),
    )


def insert_jobs(
    tx: Transaction,
    task_id: int,
    spec: TaskSpec,
    queue: str,
    new_jobs: Sequence[NewJob],
    now: datetime,
    parents: Sequence[int] | None = None,
    library_bytes: int = 0,
    *,
    throttled: bool = False,
) -> list[int]:
    """Stores jobs of a task and returns their identifiers in order.

    `parents` are the jobs that they replace; `library_bytes` is the size of the task's library, if it is built.
    `throttled`: those that would be runnable wait until `usecases.access.limits` releases them.
    """
    job_ids = _reserve_ids(tx, len(new_jobs))
    same_in_all = {
        "task_id": task_id,
        "user": spec.user,
        "queue": queue,
        "priority": spec.priority,
        "max_attempts": spec.max_attempts,
        "create_time": now,
        "state_time": now,
        **requirement_columns(spec.requirements),
    }
    insert_rows(
        tx,
        jobs,
        (
            "job_id",
            "index",
            "kind",
            "state",
            "throttled",
            "input_bytes",
            "parent_job_id",
            *same_in_all,
        ),
        (
            (
                job_id,
                job.index,
                job.kind.value,
                (JobState.WAITING if throttled else job.state).value,
                throttled and job.state is JobState.ACTIVATED,
                job.input_bytes + (library_bytes if job.kind is JobKind.RUN else 0),
                parents[position] if parents else None,
                *same_in_all.values(),
            )
            for position, (job_id, job) in enumerate(zip(job_ids, new_jobs, strict=True))
        ),
    )
    if not throttled and any(job.state is JobState.ACTIVATED for job in new_jobs):
        effects_of(tx).runnable.add(queue)
    return job_ids


def _reserve_ids(tx: Transaction, count: int) -> list[int]:
    # With numbers reserved in advance, one statement inserts all rows, and another all their inputs.
    if tx.dialect.name == "sqlite":
        last = tx.execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")).scalar() or 0
        return list(range(last + 1, last + 1 + count))
    drawn = (
        "SELECT nextval(pg_get_serial_sequence('jobs', 'job_id')) FROM generate_series(1, :count)"
    )
    return sorted(tx.execute(text(drawn), {"count": count}).scalars())


def get_jobs(tx: Transaction, job_ids: Collection[int]) -> dict[int, Job]:
    """Returns the jobs that exist among `job_ids`, by identifier."""
    if not job_ids:
        return {}
    query = _select_jobs().where(among(tx, jobs.c.job_id, job_ids))
    return {row["job_id"]: _to_job(row) for row in tx.execute(query).mappings()}


def lock_jobs(tx: Transaction, job_ids: Collection[int]) -> dict[int, Job]:
    """Returns jobs as `get_jobs` does, and locks them until the end of the transaction."""
    if not job_ids:
        return {}
    query = (
        _select_jobs()
        .where(among(tx, jobs.c.job_id, job_ids))
        .order_by(jobs.c.job_id)
        # The weaker lock still lets other transactions insert rows that refer to a job.
        .with_for_update(of=jobs, key_share=True)
    )
    return {row["job_id"]: _to_job(row) for row in tx.execute(query).mappings()}


def list_jobs(tx: Transaction, after: int, limit: int, wanted: JobFilter) -> list[Job]:
    """Returns up to `limit` jobs after job `after`, in ascending order of identifier.

    With `newest_first` the order is descending, and an `after` of 0 means from the newest.
    """
    query = _select_jobs().limit(limit)
    if wanted.newest_first:
        query = query.order_by(jobs.c.job_id.desc())
        if after:
            query = query.where(jobs.c.job_id < after)
    else:
        query = query.order_by(jobs.c.job_id).where(jobs.c.job_id > after)
    if wanted.task_id:
        query = query.where(jobs.c.task_id == wanted.task_id)
    if wanted.states:
        query = query.where(jobs.c.state.in_([state.value for state in wanted.states]))
    if wanted.user:
        query = query.where(jobs.c.user == wanted.user)
    if wanted.queue:
        query = query.where(jobs.c.queue == wanted.queue)
    if wanted.node:
        query = query.where(attempts.c.node == wanted.node)
    if wanted.labels:
        query = query.where(has_labels(jobs.c.task_id, wanted.labels))
    return [_to_job(row) for row in tx.execute(query).mappings()]


def list_task_jobs(tx: Transaction, task_id: int, states: Collection[JobState]) -> list[Job]:
    """Returns and locks the jobs of a task in `states` that no retry has replaced, by identifier."""
    query = (
        _select_jobs()
        .where(
            jobs.c.task_id == task_id,
            jobs.c.state.in_([state.value for state in states]),
            jobs.c.retry_job_id.is_(None),
        )
        .order_by(jobs.c.job_id)
        .with_for_update(of=jobs, key_share=True)
    )
    return [_to_job(row) for row in tx.execute(query).mappings()]


def has_open_build(tx: Transaction, task_id: int) -> bool:
    """Whether a build job of a task has not ended."""
    query = select(jobs.c.job_id).where(
        jobs.c.task_id == task_id,
        jobs.c.kind == JobKind.BUILD.value,
        jobs.c.state.in_([state.value for state in JobState if state not in FINAL_STATES]),
    )
    return tx.execute(query.limit(1)).first() is not None


def count_ahead(tx: Transaction, job: Job) -> int:
    """Counts the runnable jobs of the same user and queue that precede a job by priority and age."""
    before = (jobs.c.user == job.user) & (
        (jobs.c.priority > job.priority)
        | ((jobs.c.priority == job.priority) & (jobs.c.job_id < job.job_id))
    )
    query = (
        select(func.count())
        .select_from(jobs)
        .where(jobs.c.queue == job.queue, jobs.c.state == JobState.ACTIVATED.value, before)
    )
    return tx.execute(query).scalar_one()


def queues_with_jobs(tx: Transaction, names: Collection[str]) -> set[str]:
    """Returns those of the queues that have jobs which have not ended."""
    query = (
        select(jobs.c.queue)
        .where(among(tx, jobs.c.queue, names), jobs.c.state.not_in([s.value for s in FINAL_STATES]))
        .distinct()
    )
    return set(tx.execute(query).scalars())


def queue_loads(tx: Transaction, names: Sequence[str]) -> dict[str, float]:
    """Returns the number of open jobs per live pilot, by queue; a queue without pilots counts as having half of one."""
    waiting: dict[str, int] = dict(
        tx.execute(
            select(jobs.c.queue, func.count())
            .where(
                among(tx, jobs.c.queue, names), jobs.c.state.not_in([s.value for s in FINAL_STATES])
            )
            .group_by(jobs.c.queue)
        ).all()
    )
    live: dict[str, int] = dict(
        tx.execute(
            select(pilots.c.queue, func.count())
            .where(among(tx, pilots.c.queue, names), pilots.c.state == PilotState.LIVE.value)
            .group_by(pilots.c.queue)
        ).all()
    )
    return {name: (waiting.get(name, 0) + 1) / (live.get(name, 0) or 0.5) for name in names}


def pauses_over(tx: Transaction, now: datetime, limit: int) -> dict[tuple[str, str], list[int]]:
    """Returns up to `limit` jobs whose pause is over, in the order of its end, by queue and user."""
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
