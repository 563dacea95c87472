"""The tables that all rooms share: answers to repeated requests, and claims on periodic work."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Table,
    Text,
)

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import UtcDateTime

requests = Table(
    "requests",
    metadata,
    # Answered requests, by user and request_id, so that a repeated request gets the same answer.
    Column("request_id", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    # 0: no task.
    Column("task_id", BigInteger, nullable=False),
    Column("numbers", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    # The server process that does a piece of periodic work, and when it last did it.
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("run_time", UtcDateTime, nullable=False),
    Column("expire_time", UtcDateTime, nullable=False),
)
