"""Moves of jobs: each a compare-and-set on the state, by a step of the table of transitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, or_, select, update

from pandawn_server.domain.tasks.jobs import LEASED_STATES, JobError, JobState, states_before
from pandawn_server.storage.among import among
from pandawn_server.storage.columns import error_columns, seconds
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks.schema import jobs


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
    """A move of a job: the state it gets and what is noted with it.

    `failed` and `lost` say what its attempt counts as. With a `retry_time` it waits until then; `avoided` are the
    nodes on which it is not tried again.
    """

    job_id: int
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
                # No IN: it would be written anew for each length, which a statement run for many
                # rows cannot be.
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


def advance(tx: Transaction, states: Mapping[int, JobState], now: datetime) -> None:
    """Moves leased jobs on to RUNNING or HOLDING as their pilots reported; later states stay."""
    if not states:
        return
    # An update locks rows as it finds them, which is no order.
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


def activate_waiting(
    tx: Transaction, task_id: int, library_bytes: int, now: datetime, *, throttled: bool = False
) -> int:
    """Makes the jobs of a task that wait for its build runnable and returns how many.

    The library, whose size is known now, counts among their inputs. With `throttled` they wait on, for
    room below their user's limit.
    """
    statement = (
        update(jobs)
        .where(
            jobs.c.task_id == task_id,
            jobs.c.state == JobState.WAITING.value,
            jobs.c.throttled.is_(False),
            jobs.c.retry_time.is_(None),
        )
        .values(
            state=(JobState.WAITING if throttled else JobState.ACTIVATED).value,
            throttled=throttled,
            state_time=now,
            input_bytes=jobs.c.input_bytes + library_bytes,
        )
    )
    return tx.execute(statement).rowcount


def end_waiting(
    tx: Transaction, task_id: int, state: JobState, error: JobError | None, now: datetime
) -> list[int]:
    """Ends the jobs of a task that wait for its build, which will never finish; returns their identifiers."""
    statement = (
        update(jobs)
        .where(
            jobs.c.task_id == task_id,
            jobs.c.state == JobState.WAITING.value,
            jobs.c.throttled.is_(False),
            jobs.c.retry_time.is_(None),
        )
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
        .values(state=JobState.CANCELLED.value, state_time=now, throttled=False, retry_time=None)
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
