"""Claims on periodic work: any server process can do it, but only one does at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pandawn_server.storage.database import Transaction
from pandawn_server.storage.upkeep_schema import claims


def claim(
    tx: Transaction, name: str, owner: str, now: datetime, length: timedelta
) -> tuple[bool, datetime | None]:
    """Claims the work `name` for `owner` until `now + length`, unless another owner's claim is live.

    Returns whether the claim was granted, and when the work was last done by any owner. Does not wait for a claim
    that another server is making: that server may hang.
    """
    row = _find(tx, select(claims).where(claims.c.name == name).with_for_update(skip_locked=True))
    if row is None:
        if _find(tx, select(claims).where(claims.c.name == name)) is not None:
            return False, None
        return _first_claim(tx, name, owner, now, length), None
    # A claim with a time in the future was made before the database's clock was set back.
    is_live = row["run_time"] <= now < row["expire_time"]
    if row["owner"] != owner and is_live:
        return False, row["run_time"]
    tx.execute(
        update(claims)
        .where(claims.c.name == name)
        .values(owner=owner, run_time=now, expire_time=now + length)
    )
    return True, row["run_time"]


def hold(tx: Transaction, name: str, owner: str, now: datetime, length: timedelta) -> None:
    """Sets the mark `name` until `now + length`, and replaces an existing one. For the owner of another claim."""
    tx.execute(delete(claims).where(claims.c.name == name))
    tx.execute(
        insert(claims).values(name=name, owner=owner, run_time=now, expire_time=now + length)
    )


def is_held(tx: Transaction, name: str, now: datetime) -> bool:
    """Whether the mark `name` is still set."""
    return (
        _find(tx, select(claims).where(claims.c.name == name, claims.c.expire_time > now))
        is not None
    )


def _find(tx: Transaction, query: Select[Any]) -> RowMapping | None:
    return tx.execute(query).mappings().first()


def _first_claim(tx: Transaction, name: str, owner: str, now: datetime, length: timedelta) -> bool:
    """Makes the first claim on the work; False if another process does. Would wait for a locked row."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    statement = (
        dialect.insert(claims)
        .values(name=name, owner=owner, run_time=now, expire_time=now + length)
        .on_conflict_do_nothing()
        .returning(claims.c.name)
    )
    return tx.execute(statement).first() is not None
