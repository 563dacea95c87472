"""Attempts: on which node each attempt ran, why, and how it ended. Rows remain after the lease is deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, bindparam, exists, or_, select, update

from pandawn_server.domain.leases.attempts import (
    Attempt,
    AttemptEnd,
    Locality,
    Match,
    MatchRule,
    NewAttempt,
)
from pandawn_server.domain.leases.retries import Tried
from pandawn_server.domain.tasks.jobs import JobKind, JobState, Phase, ResourceUse
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.columns import error_columns, seconds, span, to_error
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases.schema import attempts, leases
from pandawn_server.storage.tasks.schema import jobs, tasks


def insert_attempts(tx: Transaction, new: Sequence[NewAttempt], now: datetime) -> None:
    """Stores attempts that start now."""
    columns = (
        "job_id",
        "attempt",
        "task_id",
        "pilot_id",
        "site",
        "node",
        "lease_token",
        "start_time",
        "locality",
        "rule",
        "match_input_bytes",
        "match_local_bytes",
        "match_candidates",
        "match_held",
        "match_waited_s",
        "queue_revision",
    )
    insert_rows(
        tx,
        attempts,
        columns,
        (
            (
                a.job_id,
                a.attempt,
                a.task_id,
                a.pilot_id,
                a.key.site,
                a.key.node,
                a.lease_token,
                now,
                a.match.locality.value,
                a.match.rule.value,
                a.match.input_bytes,
                a.match.local_bytes,
                a.match.candidates,
                a.match.held,
                a.match.waited.total_seconds(),
                a.queue_revision,
            )
            for a in new
        ),
    )


def end_attempts(tx: Transaction, ends: Sequence[AttemptEnd], now: datetime) -> None:
    """Stores how attempts ended."""
    if not ends:
        return
    values = {
        "outcome",
        "reported_state",
        "exit_code",
        "cpu_seconds",
        "max_rss_bytes",
        "work_dir_bytes",
        "input_bytes",
        "bytes_from_cache",
        "stage_in_s",
        "payload_s",
        "stage_out_s",
        *error_columns(None),
    }
    statement = (
        update(attempts)
        .where(
            attempts.c.job_id == bindparam("b_job_id"), attempts.c.attempt == bindparam("b_attempt")
        )
        .values(end_time=now, **{name: bindparam(f"b_{name}") for name in values})
    )
    tx.execute(statement, [_end_parameters(end) for end in sorted(ends, key=lambda e: e.job_id)])


def _end_parameters(end: AttemptEnd) -> dict[str, object]:
    columns = {
        "job_id": end.job_id,
        "attempt": end.attempt,
        "outcome": end.outcome.value,
        "reported_state": None if end.reported_state is None else end.reported_state.value,
        "exit_code": end.exit_code,
        "cpu_seconds": end.use.cpu_seconds,
        "max_rss_bytes": end.use.max_rss_bytes,
        "work_dir_bytes": end.use.work_dir_bytes,
        "input_bytes": end.input_bytes,
        "bytes_from_cache": end.bytes_from_cache,
        "stage_in_s": seconds(end.phase_times.get(Phase.STAGE_IN)),
        "payload_s": seconds(end.phase_times.get(Phase.PAYLOAD)),
        "stage_out_s": seconds(end.phase_times.get(Phase.STAGE_OUT)),
        **error_columns(end.error),
    }
    return {f"b_{name}": value for name, value in columns.items()}


def get_attempts(
    tx: Transaction, keys: Collection[tuple[int, int]]
) -> dict[tuple[int, int], Attempt]:
    """The attempts that exist among (job_id, attempt) pairs."""
    if not keys:
        return {}
    # Selects all attempts of the jobs, which are few, so that one parameter is enough.
    query = select(attempts).where(among(tx, attempts.c.job_id, {job_id for job_id, _ in keys}))
    return {
        (row["job_id"], row["attempt"]): _to_attempt(row) for row in tx.execute(query).mappings()
    }


def list_attempts(tx: Transaction, job_id: int) -> list[Attempt]:
    """All attempts at a job, oldest first."""
    query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.attempt)
    return [_to_attempt(row) for row in tx.execute(query).mappings()]


def failed_before(tx: Transaction, job_ids: Collection[int]) -> dict[int, list[Tried]]:
    """By job, the attempts that ended with an error, oldest first, without those that were given back."""
    query = (
        select(
            attempts.c.job_id,
            attempts.c.node,
            attempts.c.reported_state,
            attempts.c.error_component,
            attempts.c.error_code,
            attempts.c.error_reason,
            attempts.c.error_text,
        )
        .where(among(tx, attempts.c.job_id, job_ids), attempts.c.outcome == JobState.FAILED.value)
        .order_by(attempts.c.job_id, attempts.c.attempt)
    )
    found: dict[int, list[Tried]] = {}
    for row in tx.execute(query).mappings():
        error = to_error(row)
        if error is not None:
            reported = row["reported_state"] is not None
            found.setdefault(row["job_id"], []).append(Tried(row["node"], error, reported))
    return found


def started_tasks(
    tx: Transaction, task_ids: Collection[int], besides: Collection[int]
) -> frozenset[int]:
    """Those of the tasks that have a running or finished payload in a job other than `besides`."""
    finished = exists().where(
        jobs.c.task_id == tasks.c.task_id,
        jobs.c.kind == JobKind.RUN.value,
        jobs.c.state.in_([JobState.HOLDING.value, JobState.FINISHED.value]),
    )
    runs = exists().where(
        jobs.c.task_id == tasks.c.task_id,
        jobs.c.kind == JobKind.RUN.value,
        jobs.c.state == JobState.RUNNING.value,
        ~among(tx, jobs.c.job_id, besides),
        leases.c.job_id == jobs.c.job_id,
        leases.c.phase == Phase.PAYLOAD.value,
    )
    query = select(tasks.c.task_id).where(among(tx, tasks.c.task_id, task_ids), or_(finished, runs))
    return frozenset(tx.execute(query).scalars())


def _to_attempt(row: RowMapping) -> Attempt:
    times = {
        Phase.STAGE_IN: span(row["stage_in_s"]),
        Phase.PAYLOAD: span(row["payload_s"]),
        Phase.STAGE_OUT: span(row["stage_out_s"]),
    }
    return Attempt(
        job_id=row["job_id"],
        attempt=row["attempt"],
        pilot_id=row["pilot_id"],
        node=row["node"],
        lease_token=row["lease_token"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        outcome=None if row["outcome"] is None else JobState(row["outcome"]),
        reported_state=None if row["reported_state"] is None else JobState(row["reported_state"]),
        exit_code=row["exit_code"],
        error=to_error(row),
        match=Match(
            job_id=row["job_id"],
            locality=Locality(row["locality"]),
            rule=MatchRule(row["rule"]),
            input_bytes=row["match_input_bytes"],
            local_bytes=row["match_local_bytes"],
            candidates=row["match_candidates"],
            held=row["match_held"],
            waited=timedelta(seconds=row["match_waited_s"]),
        ),
        use=ResourceUse(row["cpu_seconds"], row["max_rss_bytes"], row["work_dir_bytes"]),
        input_bytes=row["input_bytes"],
        bytes_from_cache=row["bytes_from_cache"],
        phase_times={phase: time for phase, time in times.items() if time is not None},
        queue_revision=row["queue_revision"],
    )
