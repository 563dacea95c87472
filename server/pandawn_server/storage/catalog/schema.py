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
    # Random, another after each change: whoever has the files of a version need not read them again.
    Column("version", BigInteger, nullable=False),
    Column("file_count", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    # In the format of the catalog's parts. Nobody asks the database about one file.
    Column("files", LargeBinary, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
)
