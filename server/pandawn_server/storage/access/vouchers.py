"""What pilots showed when they registered, and what only processes of their machines know."""

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
    """Notes it for a pilot. Of what the machine knows a digest is kept: the database tells nobody."""
    tx.execute(
        update(pilots)
        .where(pilots.c.pilot_id == pilot_id)
        .values(credential=write_credential(shown), node_key=digest(node_key))
    )


def digest(node_key: str) -> str:
    """What is kept and compared; empty for nothing."""
    return hashlib.sha256(node_key.encode()).hexdigest() if node_key else ""


def credentials(tx: Transaction, pilot_ids: Collection[str]) -> dict[str, Shown]:
    """What these pilots showed, as far as that is known."""
    if not pilot_ids:
        return {}
    query = select(pilots.c.pilot_id, pilots.c.credential).where(
        among(tx, pilots.c.pilot_id, pilot_ids), pilots.c.credential.is_not(None)
    )
    return {pilot_id: read_credential(text) for pilot_id, text in tx.execute(query)}


def holders(tx: Transaction, key: NodeKey, since: datetime) -> list[tuple[Shown, str]]:
    """What the live pilots of a node showed that were heard of since then, each with its machine's digest."""
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
