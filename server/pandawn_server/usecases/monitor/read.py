"""Reads for the monitor: counts, pilots, nodes with their caches, events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.access.reach import may_see
from pandawn_server.domain.catalog.inventory import CacheSummary, NodeKey
from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.leases.nodes import Condition, Node
from pandawn_server.domain.leases.pilots import Pilot, PilotFilter
from pandawn_server.domain.monitor.events import NumberedEvent
from pandawn_server.domain.tasks.jobs import JobCount, job_not_found
from pandawn_server.domain.tasks.tasks import task_not_found
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import leases, nodes, pilots
from pandawn_server.storage.leases.pilots import NodeUse
from pandawn_server.storage.monitor import counts, events
from pandawn_server.storage.monitor.events import Scope
from pandawn_server.storage.queues import queues
from pandawn_server.storage.tasks import jobs, tasks
from pandawn_server.usecases.access.reach import (
    parts_within,
    require_sight_of_job,
    require_sight_of_task,
)
from pandawn_server.usecases.context import Context

LOOKED_AT = 20_000
"""The largest number of events that one page of a stream reads to find those visible to its caller: about 10 ms."""

LOOKED_BACK = 200_000
"""The number of latest events to search for those visible to a caller: the last hours of a busy site."""


def count_jobs(
    context: Context,
    after: tuple[str, str, str] | None,
    queue: str,
    user: str,
    by: Principal,
) -> list[JobCount]:
    """Counts the jobs that the caller may see, sorted by queue, state and user, after `after`; empty filters match all.

    Each page counts all jobs, because the database has no index in this order. Raises `ForbiddenError`
    (NOT_YOUR_TASK) for another user's jobs.
    """
    with context.db.read() as tx:
        # The caller's own jobs on a queue of its sites are counted twice, with the same result.
        found = {
            count.key: count
            for part in parts_within(tx, may_see(by), user, queue)
            for count in counts.count_jobs(tx, part.queue, part.user)
        }
        return [found[key] for key in sorted(found) if after is None or key > after]


def list_pilots(
    context: Context, before: tuple[datetime, str] | None, limit: int, wanted: PilotFilter
) -> list[tuple[Pilot, int]]:
    """Up to `limit` pilots, newest first, each with the number of jobs it holds."""
    with context.db.read() as tx:
        found = pilots.list_pilots(tx, before, limit, wanted)
        held = leases.count_by_pilot(tx, [pilot.pilot_id for pilot in found])
        return [(pilot, held.get(pilot.pilot_id, 0)) for pilot in found]


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, its use, and its cache; the cache is None if the catalog has none or is unavailable."""

    node: Node
    use: NodeUse
    cache: CacheSummary | None
    catalog_answered: bool
    condition: Condition


def list_nodes(context: Context, after: NodeKey | None, limit: int, site: str) -> list[NodeView]:
    """Up to `limit` nodes after a key, by (site, node); an empty site means all."""
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
        NodeView(node, use.get(node.key, NodeUse()), cache, answered, node.condition(now))
        for node, cache in zip(found, caches, strict=True)
    ]


def first_event_to_send(
    context: Context, after_event_id: int, tail: int, *, task_id: int, job_id: int, by: Principal
) -> int:
    """The event after which a stream starts: the given one, or the one before the last `tail` events.

    Raises `ForbiddenError` (NOT_YOUR_TASK, NOT_YOUR_JOB) for a task or job that the caller may not see.
    """
    with context.db.read() as tx:
        scope = _scope(tx, by, task_id, job_id)
        if not tail:
            return after_event_id
        since = 0
        if scope is not None:
            since = max(0, events.last_event_id(tx) - LOOKED_BACK)
        before = events.event_before_last(
            tx, tail, task_id=task_id, job_id=job_id, scope=scope, since=since
        )
        return max(after_event_id, before)


def last_event_id(context: Context) -> int:
    """The number of the newest event; 0 if there is none."""
    with context.db.read() as tx:
        return events.last_event_id(tx)


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, and the number of the last event that was read."""

    events: list[NumberedEvent]
    read_to: int


def read_events(
    context: Context,
    after: int,
    horizon: int,
    limit: int,
    *,
    task_id: int,
    job_id: int,
    by: Principal,
) -> EventPage:
    """Up to `limit` events that the caller may see, after `after` and up to `horizon`, oldest first.

    A `task_id` or `job_id` of 0 matches all. A page may be empty although more events follow `read_to`.
    Raises `ForbiddenError` (NOT_YOUR_TASK, NOT_YOUR_JOB).
    """
    with context.db.read() as tx:
        # Computed for each page: the caller's sites may change while the stream is open.
        scope = _scope(tx, by, task_id, job_id)
        until = horizon if scope is None else min(horizon, after + LOOKED_AT)
        found = events.read_events(
            tx, after, limit, until=until, task_id=task_id, job_id=job_id, scope=scope
        )
        return EventPage(found, found[-1].event_id if len(found) == limit else until)


def _scope(tx: Transaction, by: Principal, task_id: int, job_id: int) -> Scope | None:
    """The events that a caller may see; None means all."""
    reach = may_see(by)
    if reach.everything:
        return None
    if task_id:
        task = tasks.get_tasks(tx, [task_id]).get(task_id)
        if task is None:
            raise task_not_found(task_id)
        require_sight_of_task(tx, by, task)
        return None
    if job_id:
        job = jobs.get_jobs(tx, [job_id]).get(job_id)
        if job is None:
            raise job_not_found(job_id)
        require_sight_of_job(tx, by, job)
        return None
    return Scope(reach.user, queues.names_of_sites(tx, reach.sites), reach.sites)
