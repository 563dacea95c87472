"""The credentials of pilots at their registration, and the node keys of their machines."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select, update

from pandawn_server.domain.access.admission import Shown
from pandawn_server.domain.access.vouching import read_credential, write_credential
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases.schema import pilots


def record(tx: Transaction, pilot_id: str, shown: Shown, node_key: str) -> None:
    """Stores both for a pilot; of the node key only a digest, so that the database does not disclose it."""
    tx.execute(
        update(pilots)
        .where(pilots.c.pilot_id == pilot_id)
        .values(credential=write_credential(shown), node_key=digest(node_key))
    )


def digest(node_key: str) -> str:
    """The digest of a node key; empty for an empty key."""
    return hashlib.sha256(node_key.encode()).hexdigest() if node_key else ""


def credentials(tx: Transaction, pilot_ids: Collection[str]) -> dict[str, Shown]:
    """The credentials of pilots, by pilot; pilots without one are omitted."""
    if not pilot_ids:
        return {}
    query = select(pilots.c.pilot_id, pilots.c.credential).where(
        among(tx, pilots.c.pilot_id, pilot_ids), pilots.c.credential.is_not(None)
    )
    return {pilot_id: read_credential(text) for pilot_id, text in tx.execute(query)}


def holders(tx: Transaction, key: NodeKey, since: datetime) -> list[tuple[Shown, str]]:
    """The credentials and node key digests of a node's live pilots with a contact at or after `since`."""
    query = (
        select(pilots.c.credential, pilots.c.node_key)
        .where(
            pilots.c.site == key.site,
            pilots.c.node == key.node,
            pilots.c.state == PilotState.LIVE.value,
            pilots.c.contact_time >= since,
            pilots.c.credential.is_not(None),
        )
        .distinct()
    )
    return [(read_credential(text), machine) for text, machine in tx.execute(query)]
