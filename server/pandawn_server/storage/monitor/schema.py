"""The table of events."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
)

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import BigId, UtcDateTime

events = Table(
    "events",
    metadata,
    Column("event_id", BigId, primary_key=True),
    Column("event_time", UtcDateTime, nullable=False),
    Column("kind", Text, nullable=False),
    Column("task_id", BigInteger, nullable=False),
    Column("job_id", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("queue", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("pilot_id", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("text", Text, nullable=False),
    Index(None, "task_id", "event_id"),
    Index(None, "job_id", "event_id"),
    Index(None, "event_time"),
    sqlite_autoincrement=True,
)
