"""How attempts ended on a node, and how attempts of the same tasks ended on other nodes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import RowMapping, select

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.faults import Fault, Step, fault_of
from pandawn_server.domain.leases.nodes import Elsewhere, EndedAttempt
from pandawn_server.domain.tasks.jobs import JobState, Phase
from pandawn_server.storage.columns import span, to_error
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases.schema import attempts, leases
from pandawn_server.storage.tasks.schema import jobs

COMPARED = 60
"""The number of attempts of a task to read, for each kind of end: enough for a good estimate of the rate."""

_ERROR = (
    attempts.c.error_component,
    attempts.c.error_code,
    attempts.c.error_reason,
    attempts.c.error_text,
)


def last_ended(
    tx: Transaction, key: NodeKey, limit: int, since: datetime | None
) -> list[EndedAttempt]:
    """The last attempts that finished or failed on a node after `since`, newest first."""
    query = (
        select(
            attempts.c.job_id,
            attempts.c.task_id,
            attempts.c.outcome,
            attempts.c.reported_state,
            attempts.c.start_time,
            attempts.c.end_time,
            attempts.c.payload_s,
            *_ERROR,
            jobs.c.user,
        )
        .join(jobs, jobs.c.job_id == attempts.c.job_id)
        .where(
            attempts.c.site == key.site,
            attempts.c.node == key.node,
            attempts.c.end_time.is_not(None),
            attempts.c.outcome.in_([JobState.FINISHED.value, JobState.FAILED.value]),
        )
        .order_by(attempts.c.end_time.desc(), attempts.c.job_id.desc())
        .limit(limit)
    )
    if since is not None:
        query = query.where(attempts.c.end_time > since)
    return [
        EndedAttempt(
            row["job_id"],
            row["task_id"],
            row["user"],
            _fault(row),
            row["end_time"],
            span(row["payload_s"]),
            row["start_time"],
        )
        for row in tx.execute(query).mappings()
    ]


def _fault(row: RowMapping) -> Fault | None:
    error = to_error(row)
    if error is None or row["outcome"] == JobState.FINISHED.value:
        return None
    return fault_of(error, reported=row["reported_state"] is not None)


def elsewhere(
    tx: Transaction, key: NodeKey, task_ids: Collection[int], suspects: Collection[NodeKey]
) -> dict[int, Elsewhere]:
    """By task, how its attempts ended on nodes other than `key`, without the failures on suspects."""
    return {task_id: _of_task(tx, key, task_id, suspects) for task_id in sorted(task_ids)}


def _of_task(
    tx: Transaction, key: NodeKey, task_id: int, suspects: Collection[NodeKey]
) -> Elsewhere:
    found = Elsewhere()
    finished = (
        select(attempts.c.site, attempts.c.node, attempts.c.payload_s)
        .join(jobs, (jobs.c.job_id == attempts.c.job_id) & (jobs.c.attempt == attempts.c.attempt))
        .where(jobs.c.task_id == task_id, jobs.c.state == JobState.FINISHED.value)
        .limit(COMPARED)
    )
    for site, node, payload_s in tx.execute(finished):
        if NodeKey(site, node) != key:
            found.record(None, span(payload_s))
    failed = (
        select(
            attempts.c.site,
            attempts.c.node,
            attempts.c.outcome,
            attempts.c.reported_state,
            *_ERROR,
        )
        .where(attempts.c.task_id == task_id, attempts.c.outcome == JobState.FAILED.value)
        .order_by(attempts.c.end_time.desc())
        .limit(COMPARED)
    )
    for row in tx.execute(failed).mappings():
        where = NodeKey(row["site"], row["node"])
        fault = _fault(row)
        if fault is not None and where != key and where not in suspects:
            found.record(fault)
    running = (
        select(leases.c.site, leases.c.node, leases.c.phase)
        .join(jobs, jobs.c.job_id == leases.c.job_id)
        .where(
            jobs.c.task_id == task_id,
            jobs.c.state.in_([JobState.RUNNING.value, JobState.HOLDING.value]),
        )
        .limit(COMPARED)
    )
    for site, node, phase in tx.execute(running):
        if NodeKey(site, node) == key:
            continue
        if phase == Phase.PAYLOAD.value:
            found.record_passed(Step.START)
        elif phase == Phase.STAGE_OUT.value:
            found.record_passed(Step.PAYLOAD)
    return found
