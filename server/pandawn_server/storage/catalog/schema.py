"""The table of pins."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    LargeBinary,
    Table,
    Text,
)

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import UtcDateTime

pins = Table(
    "pins",
    metadata,
    Column("site", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    # Random and new after each change: a server that has the files of this version does not read them again.
    Column("version", BigInteger, nullable=False),
    Column("file_count", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    # In the format of the catalog's parts: no query is about a single file.
    Column("files", LargeBinary, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
)
