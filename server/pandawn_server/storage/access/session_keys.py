"""The signing keys of session tokens, shared by all servers on the database."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, insert, select

from pandawn_server.domain.access.sessions import SessionKey
from pandawn_server.storage.access.schema import session_keys
from pandawn_server.storage.database import Transaction


def all_keys(tx: Transaction) -> list[SessionKey]:
    """All keys, oldest first."""
    query = select(session_keys).order_by(session_keys.c.key_id)
    return [
        SessionKey(row["key_id"], row["secret"], row["use_time"])
        for row in tx.execute(query).mappings()
    ]


def insert_key(tx: Transaction, key: SessionKey) -> None:
    """Stores a key. If two processes insert the same number, one fails (DATABASE_CONFLICT)."""
    tx.execute(
        insert(session_keys).values(key_id=key.key_id, secret=key.secret, use_time=key.use_time)
    )


def delete_keys(tx: Transaction, key_ids: Collection[int]) -> None:
    """Deletes keys, which ends all sessions that they signed."""
    if key_ids:
        tx.execute(delete(session_keys).where(session_keys.c.key_id.in_(sorted(key_ids))))
