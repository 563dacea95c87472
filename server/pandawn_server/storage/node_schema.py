"""The table of worker nodes. Part of `storage.schema`."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, Table, Text, text

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import UtcDateTime

nodes = Table(
    "nodes",
    metadata,
    Column("site", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("contact_time", UtcDateTime, nullable=False),
    Column("suspended_until", UtcDateTime),
    Column("suspend_reason", Text, nullable=False, server_default=""),
    # Open, suspended or drained; on probation it is suspended until a time that is over.
    Column("state", Text, nullable=False, server_default="open"),
    Column("changed_by", Text, nullable=False, server_default=""),
    Column("change_time", UtcDateTime),
    Column("good_probes", Integer, nullable=False, server_default="0"),
    Column("suspensions", Integer, nullable=False, server_default="0"),
    Column("judged_since", UtcDateTime),
    Column("evidence", JSON(none_as_null=True)),
    # Each round of handing out asks for those that are not open: few.
    Index(
        "ix_nodes_restricted",
        "state",
        postgresql_where=text("state <> 'open'"),
        sqlite_where=text("state <> 'open'"),
    ),
)
