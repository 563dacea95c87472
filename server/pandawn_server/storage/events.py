"""The stream of what happened."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, func, select

from pandawn_server.domain.events import Event, NumberedEvent
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import EVENTS, Transaction
from pandawn_server.storage.schema import events

_FIELDS = ("kind", "text", "task_id", "job_id", "attempt", "queue", "node", "pilot_id", "user")


def insert_events(tx: Transaction, happened: Iterable[Event]) -> None:
    """Stores events in the order given; they are logged when the transaction is committed."""
    told = list(happened)
    insert_rows(
        tx,
        events,
        ("event_time", *_FIELDS),
        ((event.time, *(getattr(event, name) for name in _FIELDS)) for event in told),
    )
    tx.info[EVENTS] += told


def read_events(
    tx: Transaction, after_event_id: int, limit: int, *, task_id: int = 0, job_id: int = 0
) -> list[NumberedEvent]:
    """Up to `limit` events after one, oldest first; 0 for a task or job is any."""
    query = (
        select(events)
        .where(events.c.event_id > after_event_id)
        .order_by(events.c.event_id)
        .limit(limit)
    )
    if task_id:
        query = query.where(events.c.task_id == task_id)
    if job_id:
        query = query.where(events.c.job_id == job_id)
    return [
        NumberedEvent(
            row["event_id"], Event(time=row["event_time"], **{name: row[name] for name in _FIELDS})
        )
        for row in tx.execute(query).mappings()
    ]


def event_before_last(tx: Transaction, count: int, *, task_id: int = 0, job_id: int = 0) -> int:
    """The event after which the last `count` follow; 0 when there are no more than that."""
    query = select(events.c.event_id).order_by(events.c.event_id.desc()).offset(count).limit(1)
    if task_id:
        query = query.where(events.c.task_id == task_id)
    if job_id:
        query = query.where(events.c.job_id == job_id)
    return tx.execute(query).scalar() or 0


def last_event_id(tx: Transaction) -> int:
    """The newest event; 0 when there is none."""
    return tx.execute(select(func.max(events.c.event_id))).scalar() or 0


def delete_events(tx: Transaction, before: datetime) -> int:
    """Forgets events older than `before`; returns how many."""
    return tx.execute(delete(events).where(events.c.event_time < before)).rowcount
