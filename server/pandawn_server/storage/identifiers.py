"""Row numbers that the database assigns, each only once."""

from __future__ import annotations

from sqlalchemy import func, select, text

from pandawn_server.storage.access.schema import audit
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.monitor.schema import events
from pandawn_server.storage.tasks.schema import jobs, tasks

NUMBERED = {
    "task": tasks.c.task_id,
    "job": jobs.c.job_id,
    "event": events.c.event_id,
    "line of the audit": audit.c.audit_id,
}


def skip_identifiers(tx: Transaction, count: int) -> dict[str, int]:
    """Skips the next `count` numbers of each kind; returns the last skipped one, by kind."""
    return {kind: _skip(tx, kind, count) for kind in NUMBERED}


def task_id_beyond_skipped(tx: Transaction) -> int | None:
    """The number for a new task; None if the database itself skips the skipped ones."""
    if tx.dialect.name != "sqlite":
        return None
    # In this table SQLite assigns the number after the largest existing one, and ignores its sequence table.
    newest: int = tx.execute(select(func.coalesce(func.max(tasks.c.task_id), 0))).scalar_one()
    skipped = _given(tx, tasks.name)
    return skipped + 1 if skipped > newest else None


def _given(tx: Transaction, table: str) -> int:
    query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(tx.execute(query, {"name": table}).scalar() or 0)


def _skip(tx: Transaction, kind: str, count: int) -> int:
    column = NUMBERED[kind]
    table = column.table.name
    newest: int = tx.execute(select(func.coalesce(func.max(column), 0))).scalar_one()
    if tx.dialect.name == "sqlite":
        last = max(newest, _given(tx, table)) + count
        # The table has no key for an upsert.
        tx.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table})
        tx.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"),
            {"name": table, "last": last},
        )
        return last
    sequence = {"table": table, "column": column.name}
    given = tx.execute(
        text("SELECT nextval(pg_get_serial_sequence(:table, :column))"), sequence
    ).scalar_one()
    last = max(newest, int(given)) + count
    tx.execute(
        text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)"),
        {**sequence, "last": last},
    )
    return last
