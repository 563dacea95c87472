"""Pilots: who they are, whether they are in contact, and what they last offered to jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import JSON, RowMapping, Text, bindparam, cast, func, insert, select, text, update

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.pilots import Pilot, PilotFilter, PilotState
from pandawn_server.domain.tasks.jobs import Requirements
from pandawn_server.storage.among import among
from pandawn_server.storage.columns import requirement_columns, to_requirements
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import nodes
from pandawn_server.storage.leases.schema import leases, pilots

_OFFER = "offer_"


def _to_pilot(row: RowMapping) -> Pilot:
    return Pilot(
        pilot_id=row["pilot_id"],
        queue=row["queue"],
        key=NodeKey(row["site"], row["node"]),
        host=row["host"],
        pilot_version=row["pilot_version"],
        batch_id=row["batch_id"],
        transports=tuple(row["transports"]),
        state=PilotState(row["state"]),
        end_reason=row["end_reason"],
        register_time=row["register_time"],
        contact_time=row["contact_time"],
        offer=to_requirements(row, _OFFER),
    )


def insert_pilot(tx: Transaction, pilot: Pilot, request_id: str) -> None:
    """Stores a new pilot."""
    tx.execute(
        insert(pilots).values(
            pilot_id=pilot.pilot_id,
            request_id=request_id,
            queue=pilot.queue,
            site=pilot.key.site,
            node=pilot.key.node,
            host=pilot.host,
            pilot_version=pilot.pilot_version,
            batch_id=pilot.batch_id,
            transports=list(pilot.transports),
            state=pilot.state.value,
            register_time=pilot.register_time,
            contact_time=pilot.contact_time,
        )
    )


def find_registration(tx: Transaction, request_id: str) -> Pilot | None:
    """The pilot that an earlier registration with this `request_id` made."""
    row = tx.execute(select(pilots).where(pilots.c.request_id == request_id)).mappings().first()
    return None if row is None else _to_pilot(row)


def get_pilots(tx: Transaction, pilot_ids: Collection[str]) -> dict[str, Pilot]:
    """The pilots that exist among `pilot_ids`, by identifier."""
    rows = tx.execute(select(pilots).where(among(tx, pilots.c.pilot_id, pilot_ids))).mappings()
    return {row["pilot_id"]: _to_pilot(row) for row in rows}


def record_contact(tx: Transaction, pilot_ids: Collection[str], now: datetime) -> None:
    """Records a contact of pilots."""
    if pilot_ids:
        tx.execute(
            update(pilots).where(among(tx, pilots.c.pilot_id, pilot_ids)).values(contact_time=now)
        )


def record_offers(tx: Transaction, offers: Mapping[str, Requirements]) -> None:
    """Records what pilots offer to jobs, by pilot."""
    if offers:
        names = requirement_columns(Requirements(), _OFFER)
        tx.execute(
            update(pilots)
            .where(pilots.c.pilot_id == bindparam("b_pilot_id"))
            .values({name: bindparam(f"b_{name}") for name in names}),
            [
                {
                    "b_pilot_id": pilot_id,
                    **{f"b_{k}": v for k, v in requirement_columns(offer, _OFFER).items()},
                }
                for pilot_id, offer in sorted(offers.items())
            ],
        )


_RECORD_POLLS = text(
    """
    WITH polls AS MATERIALIZED (
        SELECT r ->> 0 AS pilot_id, r ->> 1 AS site, r ->> 2 AS node,
            CAST(r ->> 3 AS boolean) AS offers, CAST(r ->> 4 AS bigint) AS memory,
            CAST(r ->> 5 AS integer) AS cores, CAST(r ->> 6 AS bigint) AS disk,
            CAST(r ->> 7 AS double precision) AS wall_time
        FROM jsonb_array_elements(CAST(:polls AS jsonb)) AS r
    ), recorded AS (
        UPDATE pilots SET contact_time = :now,
            offer_memory_bytes = CASE WHEN offers THEN memory ELSE offer_memory_bytes END,
            offer_cores = CASE WHEN offers THEN cores ELSE offer_cores END,
            offer_disk_bytes = CASE WHEN offers THEN disk ELSE offer_disk_bytes END,
            offer_wall_time_s = CASE WHEN offers THEN wall_time ELSE offer_wall_time_s END
        FROM polls WHERE pilots.pilot_id = polls.pilot_id
    )
    INSERT INTO nodes (site, node, contact_time)
    SELECT DISTINCT site, node, CAST(:now AS timestamptz) FROM polls ORDER BY 1, 2
    ON CONFLICT (site, node) DO UPDATE SET contact_time = excluded.contact_time
    """
)


def record_polls(
    tx: Transaction,
    contacts: Mapping[str, NodeKey],
    offers: Mapping[str, Requirements],
    now: datetime,
) -> None:
    """Records polls: the contacts of pilots and their nodes, and what some of the pilots offer to jobs.

    An offer without a contact is ignored. On PostgreSQL it is one statement, because many calls wait for it.
    """
    if not contacts:
        return
    if tx.dialect.name == "sqlite":
        record_contact(tx, contacts.keys(), now)
        record_offers(tx, {i: offer for i, offer in offers.items() if i in contacts})
        nodes.record_contact(tx, set(contacts.values()), now)
        return
    polls: list[tuple[object, ...]] = []
    for pilot_id in sorted(contacts):
        key, offer = contacts[pilot_id], offers.get(pilot_id)
        columns = (
            (False, None, None, None, None)
            if offer is None
            else (True, *requirement_columns(offer).values())
        )
        polls.append((pilot_id, key.site, key.node, *columns))
    tx.execute(_RECORD_POLLS, {"polls": json.dumps(polls), "now": now})


def ended_among(tx: Transaction, pilot_ids: Collection[str]) -> set[str]:
    """Those of the pilots that are no longer live, or are unknown; fast for thousands."""
    # One JSON parameter: for a list of thousands the driver takes longer than the database.
    unnest = (
        func.json_each(bindparam("ids", type_=Text))
        if tx.dialect.name == "sqlite"
        else func.json_array_elements_text(cast(bindparam("ids", type_=Text), JSON))
    )
    each = unnest.table_valued("value")
    # A subquery for each pilot: a join would read all live pilots.
    state = select(pilots.c.state).where(pilots.c.pilot_id == each.c.value).scalar_subquery()
    query = select(each.c.value).where(func.coalesce(state, "") != PilotState.LIVE.value)
    return set(tx.execute(query, {"ids": json.dumps(list(pilot_ids))}).scalars())


def set_state(tx: Transaction, pilot_ids: Collection[str], state: PilotState, reason: str) -> None:
    """Sets the state and the end reason of pilots that have ended or are lost."""
    if pilot_ids:
        tx.execute(
            update(pilots)
            .where(among(tx, pilots.c.pilot_id, pilot_ids))
            .values(state=state.value, end_reason=reason)
        )


def silent_pilots(
    tx: Transaction, queue_names: Collection[str], before: datetime, limit: int
) -> list[Pilot]:
    """Up to `limit` live pilots of some queues that hold no lease and had no contact since `before`."""
    has_lease = select(leases.c.job_id).where(leases.c.pilot_id == pilots.c.pilot_id).exists()
    query = (
        select(pilots)
        .where(
            pilots.c.state == PilotState.LIVE.value,
            among(tx, pilots.c.queue, queue_names),
            pilots.c.contact_time < before,
            ~has_lease,
        )
        .limit(limit)
    )
    return [_to_pilot(row) for row in tx.execute(query).mappings()]


def live_pilots(tx: Transaction, queue: str, limit: int) -> list[Pilot]:
    """Up to `limit` live pilots of a queue, most recent contact first."""
    query = (
        select(pilots)
        .where(pilots.c.state == PilotState.LIVE.value, pilots.c.queue == queue)
        .order_by(pilots.c.contact_time.desc())
        .limit(limit)
    )
    return [_to_pilot(row) for row in tx.execute(query).mappings()]


def queues_with_pilots(tx: Transaction, names: Collection[str]) -> set[str]:
    """Those of the queues that have live pilots."""
    query = (
        select(pilots.c.queue)
        .where(pilots.c.state == PilotState.LIVE.value, among(tx, pilots.c.queue, names))
        .distinct()
    )
    return set(tx.execute(query).scalars())


def live_nodes(tx: Transaction, queue: str, limit: int) -> list[NodeKey]:
    """Up to `limit` nodes with live pilots of a queue."""
    query = (
        select(pilots.c.site, pilots.c.node)
        .where(pilots.c.state == PilotState.LIVE.value, pilots.c.queue == queue)
        .distinct()
        .limit(limit)
    )
    return [NodeKey(*row) for row in tx.execute(query)]


def list_pilots(
    tx: Transaction, before: tuple[datetime, str] | None, limit: int, wanted: PilotFilter
) -> list[Pilot]:
    """Up to `limit` pilots that registered before (time, identifier), newest first."""
    query = (
        select(pilots)
        .order_by(pilots.c.register_time.desc(), pilots.c.pilot_id.desc())
        .limit(limit)
    )
    if before is not None:
        time, pilot_id = before
        query = query.where(
            (pilots.c.register_time < time)
            | ((pilots.c.register_time == time) & (pilots.c.pilot_id < pilot_id))
        )
    if wanted.queue:
        query = query.where(pilots.c.queue == wanted.queue)
    if not wanted.include_ended:
        query = query.where(pilots.c.state == PilotState.LIVE.value)
    return [_to_pilot(row) for row in tx.execute(query).mappings()]


@dataclass(frozen=True, slots=True)
class NodeUse:
    """How many live pilots a node has, and how many jobs they hold."""

    pilots: int = 0
    jobs: int = 0


def pilots_of_node(tx: Transaction, key: NodeKey) -> list[Pilot]:
    """The pilots of a node that have not ended, or may still hold jobs."""
    query = select(pilots).where(
        pilots.c.site == key.site,
        pilots.c.node == key.node,
        pilots.c.state != PilotState.ENDED.value,
    )
    return [_to_pilot(row) for row in tx.execute(query).mappings()]


def use_of_nodes(tx: Transaction, keys: Sequence[NodeKey]) -> dict[NodeKey, NodeUse]:
    """The use of nodes; nodes without live pilots are omitted."""
    if not keys:
        return {}
    on_nodes = among(tx, pilots.c.site, {key.site for key in keys}) & among(
        tx, pilots.c.node, {key.node for key in keys}
    )
    query = (
        select(
            pilots.c.site,
            pilots.c.node,
            func.count(pilots.c.pilot_id.distinct()),
            func.count(leases.c.job_id),
        )
        .outerjoin(leases, leases.c.pilot_id == pilots.c.pilot_id)
        .where(on_nodes, pilots.c.state == PilotState.LIVE.value)
        .group_by(pilots.c.site, pilots.c.node)
    )
    found = {NodeKey(site, node): NodeUse(p, j) for site, node, p, j in tx.execute(query)}
    return {key: use for key, use in found.items() if key in keys}
