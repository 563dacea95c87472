"""Jobs: inserting, reading, and moving them by compare-and-set on their state."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, bindparam, func, or_, select, text, update

from pandawn_server.domain.jobs import (
    FINAL_STATES,
    LEASED_STATES,
    Job,
    JobError,
    JobFilter,
    JobKind,
    JobState,
    Phase,
    states_before,
)
from pandawn_server.domain.matching import Candidate
from pandawn_server.domain.pilots import PilotState
from pandawn_server.domain.tasks import NewJob, TaskSpec
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.columns import (
    error_columns,
    requirement_columns,
    to_error,
    to_requirements,
)
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.schema import attempts, jobs, leases, pilots


def _select_jobs() -> Select[Any]:
    # The node and the phase live with the attempt and the lease, which the hot path writes anyway.
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
) -> list[int]:
    """Stores jobs of a task and returns their identifiers in order.

    `parents` names what each replaces; `library_bytes` is the size of the task's library, if it is built.
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
        ("job_id", "index", "kind", "state", "input_bytes", "parent_job_id", *same_in_all),
        (
            (
                job_id,
                job.index,
                job.kind.value,
                job.state.value,
                job.input_bytes + (library_bytes if job.kind is JobKind.RUN else 0),
                parents[position] if parents else None,
                *same_in_all.values(),
            )
            for position, (job_id, job) in enumerate(zip(job_ids, new_jobs, strict=True))
        ),
    )
    return job_ids


def _reserve_ids(tx: Transaction, count: int) -> list[int]:
    # Numbers drawn beforehand let one statement insert all rows, and their inputs after them.
    if tx.dialect.name == "sqlite":
        last = tx.execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")).scalar() or 0
        return list(range(last + 1, last + 1 + count))
    drawn = (
        "SELECT nextval(pg_get_serial_sequence('jobs', 'job_id')) FROM generate_series(1, :count)"
    )
    return sorted(tx.execute(text(drawn), {"count": count}).scalars())


def get_jobs(tx: Transaction, job_ids: Collection[int]) -> dict[int, Job]:
    """The jobs that exist among `job_ids`, by identifier."""
    if not job_ids:
        return {}
    query = _select_jobs().where(among(tx, jobs.c.job_id, job_ids))
    return {row["job_id"]: _to_job(row) for row in tx.execute(query).mappings()}


def list_jobs(tx: Transaction, after: int, limit: int, wanted: JobFilter) -> list[Job]:
    """Up to `limit` jobs with identifiers above `after`, in order."""
    query = _select_jobs().where(jobs.c.job_id > after).order_by(jobs.c.job_id).limit(limit)
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
    return [_to_job(row) for row in tx.execute(query).mappings()]


def list_task_jobs(tx: Transaction, task_id: int, states: Collection[JobState]) -> list[Job]:
    """The jobs of a task in some states that no retry has replaced, locked, by identifier."""
    query = (
        _select_jobs()
        .where(
            jobs.c.task_id == task_id,
            jobs.c.state.in_([state.value for state in states]),
            jobs.c.retry_job_id.is_(None),
        )
        .order_by(jobs.c.job_id)
        .with_for_update(of=jobs)
    )
    return [_to_job(row) for row in tx.execute(query).mappings()]


def candidates(tx: Transaction, queue: str, limit: int) -> list[Candidate]:
    """The first `limit` runnable jobs of a queue by priority and age."""
    query = (
        select(
            jobs.c.job_id,
            jobs.c.priority,
            jobs.c.input_bytes,
            jobs.c.state_time,
            jobs.c.memory_bytes,
            jobs.c.cores,
            jobs.c.disk_bytes,
            jobs.c.wall_time_s,
        )
        .where(jobs.c.queue == queue, jobs.c.state == JobState.ACTIVATED.value)
        .order_by(jobs.c.priority.desc(), jobs.c.job_id)
        .limit(limit)
    )
    return [
        Candidate(
            row["job_id"],
            row["priority"],
            row["input_bytes"],
            row["state_time"],
            to_requirements(row),
        )
        for row in tx.execute(query).mappings()
    ]


def count_ahead(tx: Transaction, job: Job) -> int:
    """Runnable jobs of the same queue that go before a job by priority and age."""
    before = (jobs.c.priority > job.priority) | (
        (jobs.c.priority == job.priority) & (jobs.c.job_id < job.job_id)
    )
    query = (
        select(func.count())
        .select_from(jobs)
        .where(jobs.c.queue == job.queue, jobs.c.state == JobState.ACTIVATED.value, before)
    )
    return tx.execute(query).scalar_one()


def claim(tx: Transaction, job_ids: Collection[int], now: datetime) -> dict[int, int]:
    """Moves runnable jobs to SENT and returns the new attempt numbers of those that were still runnable.

    This compare-and-set is what makes matching safe, however stale the candidates were.
    """
    if not job_ids:
        return {}
    # Rows that another transaction is just claiming are passed over: waiting for them could only
    # tell that they are gone, and two that wait for each other would be a deadlock.
    free = (
        select(jobs.c.job_id)
        .where(among(tx, jobs.c.job_id, job_ids), jobs.c.state == JobState.ACTIVATED.value)
        .order_by(jobs.c.job_id)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(jobs)
        .where(jobs.c.job_id.in_(free), jobs.c.state == JobState.ACTIVATED.value)
        .values(state=JobState.SENT.value, attempt=jobs.c.attempt + 1, state_time=now)
        .returning(jobs.c.job_id, jobs.c.attempt)
    )
    return dict(tx.execute(statement).all())


@dataclass(frozen=True, slots=True)
class JobChange:
    """A move of a job: the state it gets and what is noted with it."""

    job_id: int
    state: JobState
    failed: bool = False
    error: JobError | None = None
    bytes_from_cache: int = 0


def move(tx: Transaction, changes: Sequence[JobChange], now: datetime) -> None:
    """Moves jobs whose rows or leases the caller has locked, each by a step of the table of transitions.

    Raises `RuntimeError` if a job is not in a state from which it may move so: the caller has
    judged by a state that it did not lock.
    """
    by_state: dict[JobState, list[JobChange]] = {}
    for change in changes:
        by_state.setdefault(change.state, []).append(change)
    for state, group in by_state.items():
        statement = (
            update(jobs)
            .where(
                jobs.c.job_id == bindparam("b_job_id"),
                # No IN: it would be written anew for each length, which a statement run for many
                # rows cannot be.
                or_(*(jobs.c.state == before.value for before in states_before(state))),
            )
            .values(
                state=state.value,
                state_time=now,
                failures=jobs.c.failures + bindparam("b_failed"),
                bytes_from_cache=bindparam("b_from_cache"),
                **{name: bindparam(f"b_{name}") for name in error_columns(None)},
            )
        )
        result = tx.execute(
            statement,
            [
                {
                    "b_job_id": change.job_id,
                    "b_failed": int(change.failed),
                    "b_from_cache": change.bytes_from_cache,
                    **{f"b_{name}": value for name, value in error_columns(change.error).items()},
                }
                for change in sorted(group, key=lambda c: c.job_id)
            ],
        )
        if result.rowcount != len(group):
            raise RuntimeError(
                f"{len(group) - result.rowcount} of {len(group)} jobs could not move to {state.value}: "
                f"{[change.job_id for change in group][:20]}"
            )


def advance(tx: Transaction, states: Mapping[int, JobState], now: datetime) -> None:
    """Moves leased jobs on to RUNNING or HOLDING as their pilots reported; later states stay."""
    for state in (JobState.RUNNING, JobState.HOLDING):
        job_ids = sorted(job_id for job_id, wanted in states.items() if wanted is state)
        if job_ids:
            allowed = [before.value for before in states_before(state) & LEASED_STATES]
            tx.execute(
                update(jobs)
                .where(jobs.c.job_id.in_(job_ids), jobs.c.state.in_(allowed))
                .values(state=state.value, state_time=now)
            )


def activate_waiting(tx: Transaction, task_id: int, library_bytes: int, now: datetime) -> int:
    """Makes the waiting jobs of a task runnable and returns how many.

    The library, whose size is known now, counts among their inputs.
    """
    statement = (
        update(jobs)
        .where(jobs.c.task_id == task_id, jobs.c.state == JobState.WAITING.value)
        .values(
            state=JobState.ACTIVATED.value,
            state_time=now,
            input_bytes=jobs.c.input_bytes + library_bytes,
        )
    )
    return tx.execute(statement).rowcount


def end_waiting(
    tx: Transaction, task_id: int, state: JobState, error: JobError | None, now: datetime
) -> list[int]:
    """Ends the waiting jobs of a task, whose build job will never finish; returns their identifiers."""
    statement = (
        update(jobs)
        .where(jobs.c.task_id == task_id, jobs.c.state == JobState.WAITING.value)
        .values(state=state.value, state_time=now, **error_columns(error))
        .returning(jobs.c.job_id)
    )
    return list(tx.execute(statement).scalars())


def cancel_queued(tx: Transaction, job_ids: Collection[int], now: datetime) -> set[int]:
    """Cancels those jobs that no pilot has; returns them. The state is compared again as it is set."""
    if not job_ids:
        return set()
    allowed = [state.value for state in states_before(JobState.CANCELLED) - LEASED_STATES]
    statement = (
        update(jobs)
        .where(among(tx, jobs.c.job_id, job_ids), jobs.c.state.in_(allowed))
        .values(state=JobState.CANCELLED.value, state_time=now)
        .returning(jobs.c.job_id)
    )
    return set(tx.execute(statement).scalars())


def request_cancel(tx: Transaction, job_ids: Collection[int]) -> set[int]:
    """Asks the pilots of leased jobs to end them; returns the jobs concerned."""
    if not job_ids:
        return set()
    statement = (
        update(jobs)
        .where(
            among(tx, jobs.c.job_id, job_ids),
            jobs.c.state.in_([state.value for state in LEASED_STATES]),
        )
        .values(cancel_requested=True)
        .returning(jobs.c.job_id)
    )
    return set(tx.execute(statement).scalars())


def set_retries(tx: Transaction, retries: Mapping[int, int]) -> None:
    """Notes for each replaced job which one replaces it."""
    tx.execute(
        update(jobs)
        .where(jobs.c.job_id == bindparam("b_old"))
        .values(retry_job_id=bindparam("b_new")),
        [{"b_old": old, "b_new": new} for old, new in sorted(retries.items())],
    )


def runnable_queues(tx: Transaction, names: Collection[str]) -> set[str]:
    """Those queues that have a runnable job."""
    found = set()
    for name in sorted(names):
        # One probe of the partial index each; DISTINCT would walk all runnable jobs.
        query = (
            select(jobs.c.job_id)
            .where(jobs.c.queue == name, jobs.c.state == JobState.ACTIVATED.value)
            .limit(1)
        )
        if tx.execute(query).first() is not None:
            found.add(name)
    return found


def queue_loads(tx: Transaction, names: Sequence[str]) -> dict[str, float]:
    """Jobs that have not ended for each live pilot of a queue, by queue (without pilots: as for half a one)."""
    waiting: dict[str, int] = dict(
        tx.execute(
            select(jobs.c.queue, func.count())
            .where(jobs.c.queue.in_(names), jobs.c.state.not_in([s.value for s in FINAL_STATES]))
            .group_by(jobs.c.queue)
        ).all()
    )
    live: dict[str, int] = dict(
        tx.execute(
            select(pilots.c.queue, func.count())
            .where(pilots.c.queue.in_(names), pilots.c.state == PilotState.LIVE.value)
            .group_by(pilots.c.queue)
        ).all()
    )
    return {name: (waiting.get(name, 0) + 1) / (live.get(name, 0) or 0.5) for name in names}
