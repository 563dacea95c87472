"""Deletes old rows, in batches that hold no lock for long. Each function returns the number of rows of its batch.

If a batch is full, there may be more rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, select, update

from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.storage.access.schema import audit
from pandawn_server.storage.among import among
from pandawn_server.storage.catalog.schema import pins
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases.schema import attempts, leases, nodes, pilots
from pandawn_server.storage.monitor.schema import events
from pandawn_server.storage.tasks.schema import (
    job_files,
    job_inputs,
    jobs,
    sandbox_chunks,
    sandbox_owners,
    sandboxes,
    task_labels,
    tasks,
)
from pandawn_server.storage.upkeep_schema import requests

TASKS_A_LOT = 100
"""The number of tasks whose deletion one batch starts."""

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
"""The end time of tasks that are being deleted, so that they come before all others."""

_Condition = ColumnElement[bool]


def delete_tasks(tx: Transaction, before: datetime, limit: int) -> int:
    """Deletes tasks that ended before a time, with up to `limit` of their jobs; returns the number of jobs.

    Tasks are marked first, so that the rest of a large task cannot be retried; the next batch continues with it.
    Events and audit lines about a task are kept as long as others.
    """
    begun = _ids(tx, tasks.c.task_id, _is_old_task(before), TASKS_A_LOT, tasks.c.close_time)
    if not begun:
        return 0
    mine = among(tx, tasks.c.task_id, begun)
    # A deletion that has started continues first, even if the settings change.
    tx.execute(
        update(tasks)
        .where(mine, tasks.c.remove_time.is_(None))
        .values(remove_time=before, close_time=_FIRST)
    )
    query = select(jobs.c.job_id).where(among(tx, jobs.c.task_id, begun)).order_by(jobs.c.job_id)
    job_ids = list(tx.execute(query.limit(limit)).scalars())
    if job_ids:
        for table in (attempts, job_files, job_inputs, jobs):
            tx.execute(delete(table).where(among(tx, table.c.job_id, job_ids)))
    if len(job_ids) < limit:
        for table in (requests, task_labels):
            tx.execute(delete(table).where(among(tx, table.c.task_id, begun)))
        tx.execute(delete(tasks).where(mine))
    # A batch of tasks without jobs is full, too.
    return limit if len(begun) == TASKS_A_LOT else len(job_ids)


def delete_sandboxes(tx: Transaction, before: datetime, limit: int) -> int:
    """Deletes sandboxes that no task uses."""
    condition = _is_unused(before)
    locked = _ids(tx, sandboxes.c.sandbox_id, condition, limit)
    # Checked again under the lock, which a submission of a task with this sandbox takes too.
    unused = select(sandboxes.c.sandbox_id).where(
        among(tx, sandboxes.c.sandbox_id, locked), condition
    )
    ids = list(tx.execute(unused).scalars())
    for table in (sandbox_chunks, sandbox_owners, sandboxes):
        tx.execute(delete(table).where(among(tx, table.c.sandbox_id, ids)))
    return len(locked)


def delete_nodes(tx: Transaction, before: datetime, limit: int) -> int:
    """Deletes nodes without a recent contact, with their pins, except those that an operator restricted."""
    query = (
        select(nodes.c.site, nodes.c.node)
        .where(_is_gone_node(before))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    keys = tx.execute(query).all()
    for site, node in keys:
        for table in (pins, nodes):
            tx.execute(delete(table).where(table.c.site == site, table.c.node == node))
    return len(keys)


def _deleting(
    table: Table, column: str, condition: Callable[[datetime], _Condition]
) -> Callable[[Transaction, datetime, int], int]:
    def run(tx: Transaction, before: datetime, limit: int) -> int:
        ids = _ids(tx, table.c[column], condition(before), limit)
        if ids:
            tx.execute(delete(table).where(among(tx, table.c[column], ids)))
        return len(ids)

    return run


def _ids(
    tx: Transaction,
    column: ColumnElement[str] | ColumnElement[int],
    condition: _Condition,
    limit: int,
    order: ColumnElement[datetime] | None = None,
) -> list[Any]:
    """Locks rows and returns their keys; skips rows that another transaction has locked."""
    query = select(column).where(condition).limit(limit).with_for_update(skip_locked=True)
    return list(tx.execute(query.order_by(column if order is None else order)).scalars())


def _is_old_task(before: datetime) -> _Condition:
    # Keeps the newest task, or SQLite would assign its number again.
    newest = select(func.max(tasks.c.task_id)).scalar_subquery()
    return and_(tasks.c.close_time < before, tasks.c.task_id < newest)


def _is_unused(before: datetime) -> _Condition:
    used = exists().where(tasks.c.sandbox_id == sandboxes.c.sandbox_id)
    return and_(sandboxes.c.create_time < before, ~used)


def _is_gone_pilot(before: datetime) -> _Condition:
    leased = exists().where(leases.c.pilot_id == pilots.c.pilot_id)
    return and_(pilots.c.state != PilotState.LIVE.value, pilots.c.contact_time < before, ~leased)


def _is_gone_node(before: datetime) -> _Condition:
    there = exists().where(
        pilots.c.site == nodes.c.site,
        pilots.c.node == nodes.c.node,
        pilots.c.state == PilotState.LIVE.value,
    )
    return and_(nodes.c.contact_time < before, nodes.c.state == "open", ~there)


Deletion = Callable[[Transaction, datetime, int], int]
"""Deletes rows older than a time, up to a limit; returns how many."""

DELETIONS: Mapping[str, Deletion] = {
    "events": _deleting(events, "event_id", lambda before: events.c.event_time < before),
    "audit lines": _deleting(audit, "audit_id", lambda before: audit.c.audit_time < before),
    "answers": _deleting(requests, "request_id", lambda before: requests.c.create_time < before),
    "tasks": delete_tasks,
    "sandboxes": delete_sandboxes,
    "pilots": _deleting(pilots, "pilot_id", _is_gone_pilot),
    "nodes": delete_nodes,
}
"""How each kind is deleted, by the names of `domain.retention`."""

_COUNTED: Mapping[str, tuple[Table, Callable[[datetime], _Condition]]] = {
    "events": (events, lambda before: events.c.event_time < before),
    "audit lines": (audit, lambda before: audit.c.audit_time < before),
    "answers": (requests, lambda before: requests.c.create_time < before),
    "tasks": (tasks, _is_old_task),
    "sandboxes": (sandboxes, _is_unused),
    "pilots": (pilots, _is_gone_pilot),
    "nodes": (nodes, _is_gone_node),
}


def count(tx: Transaction, kind: str, before: datetime) -> int:
    """The number of rows of a kind that would be deleted now."""
    table, condition = _COUNTED[kind]
    return tx.execute(select(func.count()).select_from(table).where(condition(before))).scalar_one()


def is_being_removed(tx: Transaction, task_ids: Collection[int]) -> bool:
    """Whether one of the tasks is being deleted, and may already lack some of its jobs."""
    query = select(tasks.c.task_id).where(
        among(tx, tasks.c.task_id, task_ids), tasks.c.remove_time.is_not(None)
    )
    return tx.execute(query.limit(1)).first() is not None
