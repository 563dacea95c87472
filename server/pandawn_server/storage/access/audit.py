"""The audit: lines are added, and deleted when they are old, but never changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import timedelta

from sqlalchemy import RowMapping, select, text

from pandawn_server.domain.access.audit import About, AuditFilter, AuditRecord, NumberedRecord
from pandawn_server.storage.access.schema import audit
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import Transaction

_ABOUT = tuple(field.name for field in fields(About))
_SAME = ("user", "subject", "method", "rule", "peer", "rpc", "code", "reason", "text", "count")

_DENIED = text("audit.denied")
"""Written exactly like the index's condition, or the databases would not use the index."""

LATE = timedelta(minutes=1)
"""The longest time between a line's time and its insertion, when it gets its number."""


def insert_records(tx: Transaction, records: Iterable[AuditRecord]) -> None:
    """Adds lines in the given order."""
    insert_rows(
        tx,
        audit,
        ("audit_time", "denied", *_SAME, *_ABOUT),
        (
            (
                record.time,
                record.is_denied,
                *(getattr(record, name) for name in _SAME),
                *(getattr(record.about, name) for name in _ABOUT),
            )
            for record in records
        ),
    )


def _to_record(row: RowMapping) -> NumberedRecord:
    record = AuditRecord(
        time=row["audit_time"],
        about=About(**{name: row[name] for name in _ABOUT}),
        **{name: row[name] for name in _SAME},
    )
    return NumberedRecord(row["audit_id"], record)


def list_records(
    tx: Transaction, before: int | None, limit: int, wanted: AuditFilter, site: str = ""
) -> list[NumberedRecord]:
    """Up to `limit` lines with numbers below `before`, newest first; an empty `site` means all."""
    query = select(audit).order_by(audit.c.audit_id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.audit_id < before)
    if wanted.user:
        query = query.where(audit.c.user == wanted.user)
    if wanted.rpcs:
        query = query.where(audit.c.rpc.in_(wanted.rpcs))
    if wanted.queue:
        query = query.where(audit.c.queue == wanted.queue)
    if wanted.task_id:
        query = query.where(audit.c.task_id == wanted.task_id)
    if site:
        query = query.where(audit.c.site == site)
    if wanted.denied_only:
        query = query.where(_DENIED)
    if wanted.since is not None:
        # Limits the number too; otherwise all lines of a user would be read to find the recent ones.
        first = tx.execute(
            select(audit.c.audit_id)
            .where(audit.c.audit_time >= wanted.since - LATE)
            .order_by(audit.c.audit_time, audit.c.audit_id)
            .limit(1)
        ).scalar()
        if first is None:
            return []
        query = query.where(audit.c.audit_time >= wanted.since, audit.c.audit_id >= first)
    return [_to_record(row) for row in tx.execute(query).mappings()]
