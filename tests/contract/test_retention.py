"""Rows that nothing deletes fill the disk: each table has an age, or is bounded by something else."""

from __future__ import annotations

from sqlalchemy import Table

from pandawn_server.storage import retention
from pandawn_server.storage.schema import metadata

BOUNDED = {
    "claims": "one row for each kind of periodic work",
    "config_changes": "the history of the configuration is kept",
    "config_documents": "one row for each document; removed with it",
    "config_head": "one row",
    "config_overrides": "they expire, and go with their queue",
    "config_revisions": "the history of the configuration is kept",
    "queue_access": "entries of administrators, with a limit for each queue",
    "queues": "one row for each queue that there ever was",
    "session_keys": "old keys are deleted when a key is replaced",
    "users": "one row for each person",
}


def test_each_table_is_cleared_by_age_or_bounded() -> None:
    by_age = {value.name for value in vars(retention).values() if isinstance(value, Table)}
    assert by_age | set(BOUNDED) == set(metadata.tables)
    assert not by_age & set(BOUNDED)
