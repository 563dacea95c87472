"""Periodic work: any server process may do it, exactly one does."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import insert, select, update

from pandawn_server.storage.database import Transaction
from pandawn_server.storage.schema import claims


def claim(
    tx: Transaction, name: str, owner: str, now: datetime, length: timedelta
) -> tuple[bool, datetime | None]:
    """Claims the work `name` for `owner` until `now + length`, unless another owner's claim is live.

    Returns whether it was granted, and when anybody last did the work.
    """
    row = (
        tx.execute(select(claims).where(claims.c.name == name).with_for_update()).mappings().first()
    )
    if row is None:
        tx.execute(
            insert(claims).values(name=name, owner=owner, run_time=now, expire_time=now + length)
        )
        return True, None
    if row["owner"] != owner and row["expire_time"] > now:
        return False, row["run_time"]
    tx.execute(
        update(claims)
        .where(claims.c.name == name)
        .values(owner=owner, run_time=now, expire_time=now + length)
    )
    return True, row["run_time"]
