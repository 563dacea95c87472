"""What goes on: counts, pilots, nodes with their caches, events. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.events import NumberedEvent
from pandawn_server.domain.inventory import CacheSummary, NodeKey
from pandawn_server.domain.pilots import Pilot, PilotFilter
from pandawn_server.storage import counts, events, leases, nodes, pilots
from pandawn_server.storage.counts import JobCount
from pandawn_server.storage.nodes import Node
from pandawn_server.storage.pilots import NodeUse
from pandawn_server.usecases.context import Context


def count_jobs(context: Context, queue: str, user: str) -> list[JobCount]:
    """Jobs by queue, state and user; empty filters are any."""
    with context.db.read() as tx:
        return counts.count_jobs(tx, queue, user)


def list_pilots(
    context: Context, before: tuple[datetime, str] | None, limit: int, wanted: PilotFilter
) -> list[tuple[Pilot, int]]:
    """Up to `limit` pilots, last registered first, each with the number of jobs it holds."""
    with context.db.read() as tx:
        found = pilots.list_pilots(tx, before, limit, wanted)
        held = leases.count_by_pilot(tx, [pilot.pilot_id for pilot in found])
        return [(pilot, held.get(pilot.pilot_id, 0)) for pilot in found]


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, its use, and its cache; the cache is None when the catalog knows none or does not answer."""

    node: Node
    use: NodeUse
    cache: CacheSummary | None
    catalog_answered: bool
    is_suspended: bool


def list_nodes(context: Context, after: NodeKey | None, limit: int, site: str) -> list[NodeView]:
    """Up to `limit` nodes after a key, by (site, node); an empty site is any."""
    now = context.clock()
    with context.db.read() as tx:
        found = nodes.list_nodes(tx, after, limit, site)
        keys = [node.key for node in found]
        use = pilots.use_of_nodes(tx, keys)
    answered = True
    caches: Sequence[CacheSummary | None]
    try:
        caches = context.catalog.summaries(keys)
    except UnavailableError:
        caches, answered = [None] * len(keys), False
    return [
        NodeView(node, use.get(node.key, NodeUse()), cache, answered, node.is_suspended(now))
        for node, cache in zip(found, caches, strict=True)
    ]


def first_event_to_send(
    context: Context, after_event_id: int, tail: int, *, task_id: int, job_id: int
) -> int:
    """The event after which a stream begins: the caller's, or the one before the last `tail`."""
    if not tail:
        return after_event_id
    with context.db.read() as tx:
        before = events.event_before_last(tx, tail, task_id=task_id, job_id=job_id)
        return max(after_event_id, before)


def last_event_id(context: Context) -> int:
    """The newest event; 0 when there is none."""
    with context.db.read() as tx:
        return events.last_event_id(tx)


def read_events(
    context: Context, after_event_id: int, limit: int, *, task_id: int, job_id: int
) -> list[NumberedEvent]:
    """Up to `limit` events after one, oldest first; 0 for a task or job is any."""
    with context.db.read() as tx:
        return events.read_events(tx, after_event_id, limit, task_id=task_id, job_id=job_id)
