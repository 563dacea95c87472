"""Worker nodes: when they were heard of, and whether they get jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, bindparam, select, text, update

from pandawn_server.domain.inventory import NodeKey
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.schema import nodes
from pandawn_server.storage.types import UtcDateTime


@dataclass(frozen=True, slots=True)
class Node:
    """A node; `suspended_until` is None while it gets jobs."""

    key: NodeKey
    contact_time: datetime
    suspended_until: datetime | None
    suspend_reason: str

    def is_suspended(self, now: datetime) -> bool:
        """Whether the node gets no jobs now."""
        return self.suspended_until is not None and now < self.suspended_until


def _to_node(row: RowMapping) -> Node:
    return Node(
        NodeKey(row["site"], row["node"]),
        row["contact_time"],
        row["suspended_until"],
        row["suspend_reason"],
    )


_NOTE_CONTACT = """
    INSERT INTO nodes (site, node, contact_time)
    SELECT DISTINCT {site}, {node}, {now} FROM {each} ORDER BY 1, 2
    ON CONFLICT (site, node) DO UPDATE SET contact_time = excluded.contact_time
"""
_NOTE_CONTACT_SQLITE = text(
    _NOTE_CONTACT.format(
        site="json_extract(value, '$[0]')",
        node="json_extract(value, '$[1]')",
        now=":now",
        # Without a condition SQLite takes the ON of the conflict for that of a join.
        each="json_each(:keys) WHERE true",
    )
).bindparams(bindparam("now", type_=UtcDateTime()))
_NOTE_CONTACT_POSTGRESQL = text(
    _NOTE_CONTACT.format(
        site="r ->> 0",
        node="r ->> 1",
        now="CAST(:now AS timestamptz)",
        each="json_array_elements(CAST(:keys AS json)) AS r",
    )
)


def note_contact(tx: Transaction, keys: Collection[NodeKey], now: datetime) -> None:
    """Notes that nodes were heard of, new ones included."""
    if keys:
        embedded = tx.dialect.name == "sqlite"
        tx.execute(
            _NOTE_CONTACT_SQLITE if embedded else _NOTE_CONTACT_POSTGRESQL,
            # As a document, for it stands in the way of each call: see `storage.bulk`.
            {"keys": json.dumps(list(keys)), "now": now},
        )


def get_nodes(tx: Transaction, keys: Collection[NodeKey]) -> dict[NodeKey, Node]:
    """The nodes that exist among `keys`."""
    if not keys:
        return {}
    # A node's name is nearly always its own; namesakes at other sites are sorted out here.
    query = select(nodes).where(
        among(tx, nodes.c.site, {key.site for key in keys}),
        among(tx, nodes.c.node, {key.node for key in keys}),
    )
    found = [_to_node(row) for row in tx.execute(query).mappings()]
    return {node.key: node for node in found if node.key in keys}


# Made once: building it took longer than running it.
_SUSPENDED = select(nodes).where(nodes.c.suspended_until > bindparam("now"))


def suspended_nodes(tx: Transaction, now: datetime) -> dict[NodeKey, Node]:
    """The nodes that get no jobs now."""
    return {
        node.key: node for node in map(_to_node, tx.execute(_SUSPENDED, {"now": now}).mappings())
    }


def suspend(tx: Transaction, key: NodeKey, until: datetime, reason: str) -> None:
    """Keeps jobs from a node."""
    tx.execute(
        update(nodes)
        .where(nodes.c.site == key.site, nodes.c.node == key.node)
        .values(suspended_until=until, suspend_reason=reason)
    )


def list_nodes(tx: Transaction, after: NodeKey | None, limit: int, site: str) -> Sequence[Node]:
    """Up to `limit` nodes after a key, by (site, node); an empty site is any."""
    query = select(nodes).order_by(nodes.c.site, nodes.c.node).limit(limit)
    if after is not None:
        query = query.where(
            (nodes.c.site > after.site)
            | ((nodes.c.site == after.site) & (nodes.c.node > after.node))
        )
    if site:
        query = query.where(nodes.c.site == site)
    return [_to_node(row) for row in tx.execute(query).mappings()]


def site_nodes(tx: Transaction, site: str) -> list[NodeKey]:
    """All nodes of a site, by name."""
    query = select(nodes.c.node).where(nodes.c.site == site).order_by(nodes.c.node)
    return [NodeKey(site, node) for node in tx.execute(query).scalars()]
