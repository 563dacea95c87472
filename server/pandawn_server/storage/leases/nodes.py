"""Worker nodes: their last contact, and whether they get jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, bindparam, delete, select, text, update

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.nodes import Node
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases.schema import nodes
from pandawn_server.storage.types import UtcDateTime

_OPEN, _SUSPENDED, _DRAINED = "open", "suspended", "drained"


def _to_node(row: RowMapping) -> Node:
    return Node(
        NodeKey(row["site"], row["node"]),
        row["contact_time"],
        is_drained=row["state"] == _DRAINED,
        is_suspended=row["state"] == _SUSPENDED,
        until=row["suspended_until"],
        reason=row["suspend_reason"],
        by=row["changed_by"],
        good_probes=row["good_probes"],
        suspensions=row["suspensions"],
        change_time=row["change_time"],
        judged_since=row["judged_since"],
        evidence=tuple(row["evidence"] or ()),
    )


_RECORD_CONTACT = """
    INSERT INTO nodes (site, node, contact_time)
    SELECT DISTINCT {site}, {node}, {now} FROM {each} ORDER BY 1, 2
    ON CONFLICT (site, node) DO UPDATE SET contact_time = excluded.contact_time
"""
_RECORD_CONTACT_SQLITE = text(
    _RECORD_CONTACT.format(
        site="json_extract(value, '$[0]')",
        node="json_extract(value, '$[1]')",
        now=":now",
        # Without a condition SQLite parses ON CONFLICT as the ON of a join.
        each="json_each(:keys) WHERE true",
    )
).bindparams(bindparam("now", type_=UtcDateTime()))
_RECORD_CONTACT_POSTGRESQL = text(
    _RECORD_CONTACT.format(
        site="r ->> 0",
        node="r ->> 1",
        now="CAST(:now AS timestamptz)",
        each="json_array_elements(CAST(:keys AS json)) AS r",
    )
)


def record_contact(tx: Transaction, keys: Collection[NodeKey], now: datetime) -> None:
    """Records a contact of nodes, and inserts new nodes."""
    if keys:
        embedded = tx.dialect.name == "sqlite"
        tx.execute(
            _RECORD_CONTACT_SQLITE if embedded else _RECORD_CONTACT_POSTGRESQL,
            # One JSON parameter, because every call runs this: see `storage.bulk`.
            {"keys": json.dumps(list(keys)), "now": now},
        )


def get_nodes(tx: Transaction, keys: Collection[NodeKey]) -> dict[NodeKey, Node]:
    """The nodes that exist among `keys`."""
    if not keys:
        return {}
    # Node names are nearly always unique; nodes of the same name at other sites are filtered out below.
    query = select(nodes).where(
        among(tx, nodes.c.site, {key.site for key in keys}),
        among(tx, nodes.c.node, {key.node for key in keys}),
    )
    found = [_to_node(row) for row in tx.execute(query).mappings()]
    return {node.key: node for node in found if node.key in keys}


# Built once: building it took longer than running it. The condition matches the partial index.
_RESTRICTED = select(nodes).where(text("state <> 'open'"))


def restricted_nodes(tx: Transaction) -> dict[NodeKey, Node]:
    """The nodes that get no jobs, or only probes."""
    return {node.key: node for node in map(_to_node, tx.execute(_RESTRICTED).mappings())}


def suspended_nodes(tx: Transaction, now: datetime) -> dict[NodeKey, Node]:
    """The nodes that get no jobs now."""
    return {key: node for key, node in restricted_nodes(tx).items() if node.gets_none(now)}


def save(tx: Transaction, node: Node) -> None:
    """Stores the condition of a node; its contact time does not change."""
    state = _DRAINED if node.is_drained else _SUSPENDED if node.is_suspended else _OPEN
    tx.execute(
        update(nodes)
        .where(nodes.c.site == node.key.site, nodes.c.node == node.key.node)
        .values(
            state=state,
            suspended_until=node.until,
            suspend_reason=node.reason,
            changed_by=node.by,
            change_time=node.change_time,
            good_probes=node.good_probes,
            suspensions=node.suspensions,
            judged_since=node.judged_since,
            evidence=list(node.evidence) or None,
        )
    )


def lock_nodes(tx: Transaction, keys: Collection[NodeKey]) -> dict[NodeKey, Node]:
    """Like `get_nodes`, but locks the nodes until the end of the transaction."""
    found = {}
    for key in sorted(keys):
        query = select(nodes).where(nodes.c.site == key.site, nodes.c.node == key.node)
        row = tx.execute(query.with_for_update()).mappings().first()
        if row is not None:
            found[key] = _to_node(row)
    return found


def remove(tx: Transaction, key: NodeKey) -> None:
    """Deletes a node; a pilot that still runs there adds it again."""
    tx.execute(delete(nodes).where(nodes.c.site == key.site, nodes.c.node == key.node))


def list_nodes(tx: Transaction, after: NodeKey | None, limit: int, site: str) -> Sequence[Node]:
    """Up to `limit` nodes after a key, by (site, node); an empty site means all sites."""
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
