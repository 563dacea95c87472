"""The stream of events."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, false, func, or_, select, text

from pandawn_server.domain.monitor.events import Event, NumberedEvent
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import Transaction, effects_of
from pandawn_server.storage.leases.schema import nodes
from pandawn_server.storage.monitor.schema import events

_FIELDS = ("kind", "text", "task_id", "job_id", "attempt", "queue", "node", "pilot_id", "user")


def insert_events(tx: Transaction, happened: Iterable[Event]) -> None:
    """Stores events in the given order; they are logged when the transaction is committed."""
    new = list(happened)
    insert_rows(
        tx,
        events,
        ("event_time", *_FIELDS),
        ((event.time, *(getattr(event, name) for name in _FIELDS)) for event in new),
    )
    effects_of(tx).events += new


@dataclass(frozen=True, slots=True)
class Scope:
    """Events that concern a user, some queues, or nodes of some sites."""

    user: str
    queues: Collection[str]
    sites: Collection[str]

    def condition(self, tx: Transaction) -> ColumnElement[bool]:
        """The SQL condition for an event in this scope."""
        either = [events.c.user == self.user] if self.user else []
        if self.queues:
            either.append(among(tx, events.c.queue, self.queues))
        if self.sites:
            # Events about the node itself have no queue.
            of_site = (nodes.c.node == events.c.node) & among(tx, nodes.c.site, self.sites)
            either.append((events.c.queue == "") & (events.c.node != "") & exists().where(of_site))
        return or_(false(), *either)


def read_events(
    tx: Transaction,
    after_event_id: int,
    limit: int,
    *,
    until: int | None = None,
    task_id: int = 0,
    job_id: int = 0,
    scope: Scope | None = None,
) -> list[NumberedEvent]:
    """Up to `limit` events after one and up to `until`, oldest first; 0 for a task or job matches all.

    With a `scope`, for which there is no index, `until` should be near: every event up to it is read.
    """
    query = (
        select(events)
        .where(events.c.event_id > after_event_id)
        .order_by(events.c.event_id)
        .limit(limit)
    )
    if until is not None:
        query = query.where(events.c.event_id <= until)
    if scope is not None:
        query = query.where(scope.condition(tx))
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


def event_before_last(
    tx: Transaction,
    count: int,
    *,
    task_id: int = 0,
    job_id: int = 0,
    scope: Scope | None = None,
    since: int = 0,
) -> int:
    """The number of the event before the last `count`; `since` if at most `count` follow it."""
    query = select(events.c.event_id).order_by(events.c.event_id.desc()).offset(count).limit(1)
    if task_id:
        query = query.where(events.c.task_id == task_id)
    if job_id:
        query = query.where(events.c.job_id == job_id)
    if scope is not None:
        query = query.where(scope.condition(tx))
    if since:
        query = query.where(events.c.event_id > since)
    return tx.execute(query).scalar() or since


def last_event_id(tx: Transaction) -> int:
    """The number of the newest event; 0 if there is none."""
    return tx.execute(select(func.max(events.c.event_id))).scalar() or 0


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest event, and the transactions that may still commit older ones.

    `transactions` are the numbers of the oldest open and of the next transaction; None if the database has only one
    writer at a time.
    """

    event_id: int
    transactions: tuple[int, int] | None


def newest(tx: Transaction) -> Newest:
    """The newest committed event; 0 if there is none."""
    if tx.dialect.name == "sqlite":
        return Newest(last_event_id(tx), None)
    # One statement, so that all values are of the same moment.
    row = tx.execute(
        text(
            "SELECT coalesce(max(event_id), 0), txid_snapshot_xmin(txid_current_snapshot()), "
            "txid_snapshot_xmax(txid_current_snapshot()) FROM events"
        )
    ).one()
    return Newest(row[0], (row[1], row[2]))
