"""The tables of access: lists of who may use which queue, and what was seen of users."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Integer, Table, Text

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import UtcDateTime

queue_access = Table(
    "queue_access",
    metadata,
    # Who may use a queue; the words are those of `domain.access`. A queue of the same name that is
    # made anew finds its list as it was, so there is no reference.
    Column("queue", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("effect", Text, nullable=False),
    Column("max_running", Integer),
    Column("max_waiting", Integer),
    Column("priority_offset", Integer),
    Column("granted_by", Text, nullable=False),
    Column("grant_time", UtcDateTime, nullable=False),
    Column("expire_time", UtcDateTime),
    Column("message", Text, nullable=False),
)

users = Table(
    "users",
    metadata,
    # What was last seen of those who submitted: lists are also asked when they are not there.
    Column("user", Text, primary_key=True),
    Column("method", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("seen_time", UtcDateTime, nullable=False),
)
