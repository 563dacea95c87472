"""The tables of the configuration: queues, documents, overrides, and their history."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
)

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import UtcDateTime

queues = Table(
    "queues",
    metadata,
    # All queues that exist or existed: tasks outlive their queues. Their parameters are in documents.
    Column("name", Text, primary_key=True),
)


config_head = Table(
    "config_head",
    metadata,
    # One row. Each change of the configuration locks it, so that revisions are committed in order.
    Column("head_id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)

config_documents = Table(
    "config_documents",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    # The parameters that are set, and the revision that set each of them.
    Column("settings", JSON, nullable=False),
    Column("since", JSON, nullable=False),
    Column("etag", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("override_revision", BigInteger, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    # A deleted document stays, empty: servers that have it in their cache learn that it was deleted.
    Column("is_deleted", Boolean, nullable=False),
    Index(None, "revision"),
    Index(None, "override_revision"),
)

config_overrides = Table(
    "config_overrides",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("parameter", Text, primary_key=True),
    Column("settings", JSON, nullable=False),
    Column("expire_time", UtcDateTime, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index(None, "expire_time"),
)

config_revisions = Table(
    "config_revisions",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("change_time", UtcDateTime, nullable=False),
    Column("cause", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_count", Integer, nullable=False),
    Column("changed_count", Integer, nullable=False),
    Column("deleted_count", Integer, nullable=False),
)

config_changes = Table(
    "config_changes",
    metadata,
    Column(
        "revision",
        BigInteger,
        ForeignKey("config_revisions.revision"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("of_overrides", Boolean, nullable=False),
    # The whole document before and after, NULL if it does not exist, so that any two revisions can be compared.
    Column("old", JSON),
    Column("new", JSON),
    Index(None, "kind", "name", "revision"),
)
