"""Queues as somebody configured them; unset parameters stay NULL and are filled when read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, func, insert, select, update

from pandawn_server.domain.queues import Queue, QueueSettings, QueueStatus, effective_queue
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.schema import queues

_SPANS = {"max_wall_time", "lease_duration", "locality_wait"}


def _to_columns(settings: QueueSettings) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in _SPANS:
            row[f"{field.name}_s"] = None if value is None else value.total_seconds()
        elif field.name == "status":
            row["status"] = None if value is None else value.value
        else:
            row[field.name] = value
    return row


def _to_settings(row: RowMapping) -> QueueSettings:
    values: dict[str, Any] = {}
    for field in fields(QueueSettings):
        if field.name in _SPANS:
            seconds = row[f"{field.name}_s"]
            values[field.name] = None if seconds is None else timedelta(seconds=seconds)
        elif field.name == "status":
            values["status"] = None if row["status"] is None else QueueStatus(row["status"])
        else:
            values[field.name] = row[field.name]
    return QueueSettings(**values)


def _to_queue(row: RowMapping) -> Queue:
    return effective_queue(row["name"], _to_settings(row), row["etag"], row["update_time"])


def get_queues(tx: Transaction, names: Collection[str]) -> dict[str, Queue]:
    """The queues that exist among `names`, by name."""
    rows = tx.execute(select(queues).where(among(tx, queues.c.name, names))).mappings()
    return {row["name"]: _to_queue(row) for row in rows}


def get_settings_for_update(tx: Transaction, name: str) -> tuple[QueueSettings, str] | None:
    """Parameters as set and etag of a queue, locked until the end of the transaction; None if unknown."""
    row = (
        tx.execute(select(queues).where(queues.c.name == name).with_for_update()).mappings().first()
    )
    return None if row is None else (_to_settings(row), row["etag"])


def list_queues(tx: Transaction, after: str, limit: int, site: str) -> list[Queue]:
    """Up to `limit` queues with names greater than `after`, by name; an empty `site` is any."""
    query = select(queues).where(queues.c.name > after).order_by(queues.c.name).limit(limit)
    if site:
        # A queue without a site belongs to the site of its own name.
        unset = queues.c.site.is_(None) & (queues.c.name == site)
        query = query.where((queues.c.site == site) | unset)
    return [_to_queue(row) for row in tx.execute(query).mappings()]


def all_queues(tx: Transaction) -> Sequence[Queue]:
    """Every queue, by name: for choosing one at submission."""
    return [_to_queue(row) for row in tx.execute(select(queues).order_by(queues.c.name)).mappings()]


def names_of_sites(tx: Transaction, sites: Collection[str]) -> list[str]:
    """Names of the queues of some sites, in order."""
    if not sites:
        return []
    # A queue without a site belongs to the site of its own name.
    site = func.coalesce(queues.c.site, queues.c.name)
    query = select(queues.c.name).where(among(tx, site, sites)).order_by(queues.c.name)
    return list(tx.execute(query).scalars())


def insert_queue(
    tx: Transaction, name: str, settings: QueueSettings, etag: str, now: datetime
) -> None:
    """Stores a new queue."""
    tx.execute(
        insert(queues).values(name=name, etag=etag, update_time=now, **_to_columns(settings))
    )


def update_queue(
    tx: Transaction, name: str, settings: QueueSettings, etag: str, now: datetime
) -> None:
    """Stores changed parameters of a queue that the caller has locked."""
    tx.execute(
        update(queues)
        .where(queues.c.name == name)
        .values(etag=etag, update_time=now, **_to_columns(settings))
    )
