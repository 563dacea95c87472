"""The tables of access: access lists, identities of users, session keys, and the audit."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import BigId, UtcDateTime

session_keys = Table(
    "session_keys",
    metadata,
    Column("key_id", Integer, primary_key=True, autoincrement=False),
    Column("secret", LargeBinary, nullable=False),
    # From then on it signs; by then all server processes have read it.
    Column("use_time", UtcDateTime, nullable=False),
)


queue_access = Table(
    "queue_access",
    metadata,
    # The access lists; `domain.access.lists` defines the values. No foreign key: a queue that is deleted and
    # created again keeps its list.
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
    # The last identity of each submitter, to check lists when the user is not the caller.
    Column("user", Text, primary_key=True),
    Column("method", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("seen_time", UtcDateTime, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", BigId, primary_key=True),
    Column("audit_time", UtcDateTime, nullable=False),
    Column("user", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("rpc", Text, nullable=False),
    Column("task_id", BigInteger, nullable=False),
    Column("job_id", BigInteger, nullable=False),
    Column("queue", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("thing", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("text", Text, nullable=False),
    # The number of calls that the line represents.
    Column("count", BigInteger, nullable=False),
    Column("denied", Boolean, nullable=False),
    # One index for each filter; administrators read by queue and site.
    Index(None, "user", "audit_id"),
    Index(None, "rpc", "audit_id"),
    Index(None, "queue", "audit_id"),
    Index(None, "site", "audit_id"),
    Index(None, "task_id", "audit_id"),
    Index(None, "audit_time", "audit_id"),
    Index(
        "ix_audit_denied",
        "audit_id",
        postgresql_where=text("denied"),
        sqlite_where=text("denied"),
    ),
    sqlite_autoincrement=True,
)
