"""State changes of jobs: each is a compare-and-set on the state, by a step of the table of transitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Update, bindparam, func, or_, select, text, update

from pandawn_server.domain.tasks.jobs import (
    LEASED_STATES,
    JobError,
    JobState,
    check_step,
    states_before,
)
from pandawn_server.storage.among import among
from pandawn_server.storage.columns import error_columns, seconds
from pandawn_server.storage.database import Transaction, effects_of
from pandawn_server.storage.tasks.schema import jobs

IS_THROTTLED = text("jobs.throttled")
"""Written exactly as in the condition of the index: else SQLite would not use the index."""


def step(before: JobState, after: JobState) -> Update:
    """Returns an update that moves jobs from one state to another; the caller adds other values.

    Raises `ValueError` for a step that is not in the table of transitions.
    """
    check_step([before], after)
    return update(jobs).where(jobs.c.state == before.value).values(state=after.value)


def claim(tx: Transaction, job_ids: Collection[int], now: datetime) -> dict[int, int]:
    """Moves runnable jobs to SENT and returns the new attempt numbers of those that were still runnable.

    This compare-and-set makes matching safe even if the candidates were stale.
    """
    if not job_ids:
        return {}
    # Skips rows that another transaction is claiming: after a wait they would be gone, and two
    # transactions that wait for each other would deadlock.
    free = (
        select(jobs.c.job_id)
        .where(among(tx, jobs.c.job_id, job_ids), jobs.c.state == JobState.ACTIVATED.value)
        .order_by(jobs.c.job_id)
        .with_for_update(skip_locked=True)
    )
    statement = (
        step(JobState.ACTIVATED, JobState.SENT)
        .where(jobs.c.job_id.in_(free))
        .values(attempt=jobs.c.attempt + 1, state_time=now)
        .returning(jobs.c.job_id, jobs.c.attempt)
    )
    return dict(tx.execute(statement).all())


@dataclass(frozen=True, slots=True)
class JobChange:
    """A state change of a job of a queue, with the values recorded with it.

    `failed` and `lost` say what its attempt counts as. With a `retry_time` it waits until then; `avoided` are the
    nodes on which it is not retried.
    """

    job_id: int
    queue: str
    state: JobState
    failed: bool = False
    lost: bool = False
    error: JobError | None = None
    bytes_from_cache: int = 0
    retry_time: datetime | None = None
    avoided: tuple[str, ...] = ()
    wall_time: timedelta | None = None


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
                # No IN: its text depends on the number of values, but a statement for many rows
                # has one text.
                or_(*(jobs.c.state == before.value for before in states_before(state))),
            )
            .values(
                state=state.value,
                state_time=now,
                failures=jobs.c.failures + bindparam("b_failed"),
                losses=jobs.c.losses + bindparam("b_lost"),
                retry_time=bindparam("b_retry_time"),
                avoided=bindparam("b_avoided", type_=jobs.c.avoided.type),
                wall_time_s=func.coalesce(bindparam("b_wall_time_s"), jobs.c.wall_time_s),
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
                    "b_lost": int(change.lost),
                    "b_retry_time": change.retry_time,
                    "b_avoided": list(change.avoided) or None,
                    "b_wall_time_s": seconds(change.wall_time),
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
        if state is JobState.ACTIVATED:
            effects_of(tx).runnable.update(change.queue for change in group)


def advance(tx: Transaction, states: Mapping[int, JobState], now: datetime) -> None:
    """Moves leased jobs to RUNNING or HOLDING as their pilots reported; jobs in later states do not change."""
    if not states:
        return
    # Locked in order first: an update locks rows in the order in which it finds them.
    ordered = select(jobs.c.job_id).where(among(tx, jobs.c.job_id, states)).order_by(jobs.c.job_id)
    tx.execute(ordered.with_for_update(key_share=True))
    for state in (JobState.RUNNING, JobState.HOLDING):
        job_ids = sorted(job_id for job_id, wanted in states.items() if wanted is state)
        if job_ids:
            allowed = [before.value for before in states_before(state) & LEASED_STATES]
            tx.execute(
                update(jobs)
                .where(among(tx, jobs.c.job_id, job_ids), jobs.c.state.in_(allowed))
                .values(state=state.value, state_time=now)
            )


def activate_built(
    tx: Transaction,
    queue: str,
    task_id: int,
    library_bytes: int,
    now: datetime,
    *,
    throttled: bool = False,
) -> int:
    """Makes the jobs of a task that wait for its build runnable; returns how many.

    The library, whose size is known now, counts as one of their inputs. With `throttled` they keep waiting,
    for their user's limit.
    """
    statement = _activation(throttled=throttled).where(*_waits_for_build(task_id))
    added = {"state_time": now, "input_bytes": jobs.c.input_bytes + library_bytes}
    return _activate(tx, queue, statement.values(**added), throttled=throttled)


def end_pauses(
    tx: Transaction, queue: str, job_ids: Collection[int], now: datetime, *, throttled: bool
) -> int:
    """Makes jobs of a queue runnable whose pause is over; returns how many. `throttled`: they wait for a limit."""
    chosen = (
        select(jobs.c.job_id)
        .where(
            among(tx, jobs.c.job_id, job_ids),
            jobs.c.state == JobState.WAITING.value,
            jobs.c.retry_time <= now,
        )
        .order_by(jobs.c.job_id)
        # Skip jobs that are being cancelled.
        .with_for_update(skip_locked=True)
    )
    # Two statements, for the reason given in `throttle`.
    free = list(tx.execute(chosen).scalars())
    statement = _activation(throttled=throttled).where(among(tx, jobs.c.job_id, free))
    return _activate(
        tx, queue, statement.values(state_time=now, retry_time=None), throttled=throttled
    )


def release(tx: Transaction, queue: str, user: str, most: int | None, now: datetime) -> int:
    """Releases up to `most` (None: all) throttled jobs, by priority and age; returns how many."""
    chosen = (
        select(jobs.c.job_id)
        .where(IS_THROTTLED, jobs.c.queue == queue, jobs.c.user == user)
        .order_by(jobs.c.priority.desc(), jobs.c.job_id)
        .limit(most)
    )
    statement = _activation(throttled=False).where(jobs.c.job_id.in_(chosen))
    return _activate(tx, queue, statement.values(state_time=now), throttled=False)


def throttle(tx: Transaction, queue: str, user: str, most: int, now: datetime) -> int:
    """Throttles up to `most` runnable jobs of a user, the last by priority and age; returns how many."""
    chosen = (
        select(jobs.c.job_id)
        .where(jobs.c.queue == queue, jobs.c.user == user, jobs.c.state == JobState.ACTIVATED.value)
        .order_by(jobs.c.priority, jobs.c.job_id.desc())
        .limit(most)
        # Skip jobs that are being leased.
        .with_for_update(skip_locked=True)
    )
    # Two statements: PostgreSQL may run a subquery of an update several times, and each time it would skip
    # the rows that it has locked itself.
    job_ids = list(tx.execute(chosen).scalars())
    statement = (
        step(JobState.ACTIVATED, JobState.WAITING)
        .where(among(tx, jobs.c.job_id, job_ids))
        .values(state_time=now, throttled=True)
    )
    return tx.execute(statement).rowcount


def _activation(*, throttled: bool) -> Update:
    if throttled:
        # They keep waiting, for another reason.
        return update(jobs).where(jobs.c.state == JobState.WAITING.value).values(throttled=True)
    return step(JobState.WAITING, JobState.ACTIVATED).values(throttled=False)


def _activate(tx: Transaction, queue: str, statement: Update, *, throttled: bool) -> int:
    count = tx.execute(statement).rowcount
    if count and not throttled:
        effects_of(tx).runnable.add(queue)
    return count


def _waits_for_build(task_id: int) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.task_id == task_id, jobs.c.throttled.is_(False), jobs.c.retry_time.is_(None)


def end_waiting(
    tx: Transaction, task_id: int, state: JobState, error: JobError | None, now: datetime
) -> list[int]:
    """Ends the jobs of a task that wait for its build, which will never finish; returns their identifiers."""
    statement = (
        step(JobState.WAITING, state)
        .where(*_waits_for_build(task_id))
        .values(state_time=now, **error_columns(error))
        .returning(jobs.c.job_id)
    )
    return list(tx.execute(statement).scalars())


def cancel_queued(tx: Transaction, job_ids: Collection[int], now: datetime) -> set[int]:
    """Cancels those of the jobs that no pilot has, by compare-and-set; returns them."""
    if not job_ids:
        return set()
    allowed = [state.value for state in states_before(JobState.CANCELLED) - LEASED_STATES]
    statement = (
        update(jobs)
        .where(among(tx, jobs.c.job_id, job_ids), jobs.c.state.in_(allowed))
        .values(state=JobState.CANCELLED.value, state_time=now, throttled=False, retry_time=None)
        .returning(jobs.c.job_id)
    )
    return set(tx.execute(statement).scalars())


def request_cancel(tx: Transaction, job_ids: Collection[int]) -> set[int]:
    """Marks leased jobs so that their pilots end them; returns these jobs."""
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
    """Records for each replaced job which job replaces it."""
    tx.execute(
        update(jobs)
        .where(jobs.c.job_id == bindparam("b_old"))
        .values(retry_job_id=bindparam("b_new")),
        [{"b_old": old, "b_new": new} for old, new in sorted(retries.items())],
    )
