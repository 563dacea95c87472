"""SQL of pins: one row per node, with its files in the catalog's packed format."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, delete, insert, select, update

from pandawn_server.domain.catalog.inventory import NodeKey, NodePins
from pandawn_server.storage.among import among
from pandawn_server.storage.catalog.schema import pins
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases.nodes import get_nodes


@dataclass(frozen=True, slots=True)
class PackedPins:
    """The pinned files of a node, packed by the use case; each change sets a new `version`."""

    version: int
    files: bytes
    update_time: datetime


def get_for_update(tx: Transaction, key: NodeKey) -> PackedPins | None:
    """The pins of a node, locked until the end of the transaction; None if there are none."""
    query = select(pins).where(pins.c.site == key.site, pins.c.node == key.node).with_for_update()
    row = tx.execute(query).mappings().first()
    return None if row is None else _packed(row)


def get_pins(tx: Transaction, keys: Collection[NodeKey]) -> dict[NodeKey, PackedPins]:
    """The pins of nodes; a node without pins is left out."""
    if not keys:
        return {}
    query = select(pins).where(
        among(tx, pins.c.site, {key.site for key in keys}),
        among(tx, pins.c.node, {key.node for key in keys}),
    )
    rows = tx.execute(query).mappings()
    found = {NodeKey(row["site"], row["node"]): _packed(row) for row in rows}
    return {key: found[key] for key in keys if key in found}


def put(
    tx: Transaction,
    key: NodeKey,
    before: PackedPins | None,
    packed: PackedPins,
    *,
    file_count: int,
    total_bytes: int,
) -> None:
    """Writes the pins of a node; `before` is what `get_for_update` returned in this transaction.

    Raises an error that becomes DATABASE_CONFLICT if another transaction pinned the first files of the node
    in the meantime.
    """
    values = {
        "version": packed.version,
        "file_count": file_count,
        "total_bytes": total_bytes,
        "files": packed.files,
        "update_time": packed.update_time,
    }
    if before is None:
        tx.execute(insert(pins).values(site=key.site, node=key.node, **values))
    else:
        tx.execute(
            update(pins).where(pins.c.site == key.site, pins.c.node == key.node).values(values)
        )


def remove(tx: Transaction, key: NodeKey) -> None:
    """Deletes all pins of a node."""
    tx.execute(delete(pins).where(pins.c.site == key.site, pins.c.node == key.node))


def list_pins(tx: Transaction, after: NodeKey | None, limit: int, site: str) -> list[NodePins]:
    """Up to `limit` nodes with pins after a key, by (site, node); an empty site is any."""
    query = _listing().order_by(pins.c.site, pins.c.node).limit(limit)
    if after is not None:
        query = query.where(
            (pins.c.site > after.site) | ((pins.c.site == after.site) & (pins.c.node > after.node))
        )
    if site:
        query = query.where(pins.c.site == site)
    return _listed(tx, query)


def all_pins(tx: Transaction) -> list[NodePins]:
    """All nodes with pins, in no order."""
    return _listed(tx, _listing())


def _listing() -> Select[Any]:
    # Without the files, which may be large.
    return select(
        pins.c.site,
        pins.c.node,
        pins.c.version,
        pins.c.file_count,
        pins.c.total_bytes,
        pins.c.update_time,
    )


def _listed(tx: Transaction, query: Select[Any]) -> list[NodePins]:
    rows = tx.execute(query).mappings().all()
    # A separate query: a join would scan all nodes for the few with pins.
    known = get_nodes(tx, {NodeKey(row["site"], row["node"]) for row in rows})
    listed = []
    for row in rows:
        key = NodeKey(row["site"], row["node"])
        contact_time = row["update_time"]
        if key in known:
            contact_time = max(contact_time, known[key].contact_time)
        sums = row["file_count"], row["total_bytes"]
        listed.append(NodePins(key, row["version"], *sums, row["update_time"], contact_time))
    return listed


def _packed(row: RowMapping) -> PackedPins:
    return PackedPins(row["version"], row["files"], row["update_time"])
