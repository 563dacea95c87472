"""The tables that serve all rooms: answers to repeated requests, and turns at periodic work."""

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
    # Requests that were answered, so that a repeated one gets the same answer: by the user and the user's number.
    Column("request_id", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    # 0: it is about none.
    Column("task_id", BigInteger, nullable=False),
    Column("numbers", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    # Which server process does a piece of periodic work, and when it last did.
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("run_time", UtcDateTime, nullable=False),
    Column("expire_time", UtcDateTime, nullable=False),
)
