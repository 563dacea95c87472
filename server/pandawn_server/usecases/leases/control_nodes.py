"""Commands of operators on worker nodes: each takes effect at once, has a reason, and is recorded as an event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import PreconditionError
from pandawn_server.domain.leases.nodes import Condition, Node, unknown_node
from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.tasks.jobs import ErrorComponent, JobError, JobState
from pandawn_server.storage.catalog import pins
from pandawn_server.storage.leases import leases, nodes, pilots
from pandawn_server.storage.monitor import events
from pandawn_server.usecases.access.reach import require_sites
from pandawn_server.usecases.catalog.pins import refresh_pins
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.leases.ending import end_attempts, ending


def set_condition(
    context: Context, key: NodeKey, wanted: Condition, reason: str, by: Principal
) -> Condition:
    """Suspends, drains or opens a node; returns its new condition.

    Raises `NotFoundError` (NODE_NOT_FOUND) and `ForbiddenError` (SITE_ADMIN_REQUIRED).
    """
    require_sites(by, [key.site], f"to change node {key.node}")
    now = context.clock()
    who = by.name or by.subject
    with context.db.write() as tx:
        node = nodes.lock_nodes(tx, [key]).get(key)
        if node is None:
            raise unknown_node(key)
        after = replace(_with(node, wanted), reason=reason, by=who, change_time=now)
        match wanted:
            case Condition.OPEN:
                if node.condition(now) is Condition.OPEN:
                    return Condition.OPEN
                after = replace(after, reason="", by="", judged_since=now, suspensions=0)
                kind, text = EventKind.NODE_RESUMED, f"{who} resumed {key.node}: {reason}"
            case Condition.SUSPENDED:
                kind = EventKind.NODE_SUSPENDED
                text = f"{who} suspended {key.node} until an operator resumes it: {reason}"
            case Condition.DRAINED:
                kind = EventKind.NODE_DRAINED
                text = (
                    f"{who} drained {key.node}; it gets no more jobs, and its pilots end: {reason}"
                )
            case Condition.PROBATION:
                raise ValueError("only time and evidence put a node on probation")
            case other:
                assert_never(other)
        nodes.save(tx, after)
        events.insert_events(tx, [Event(now, kind, text, node=key.node)])
    return wanted


def _with(node: Node, wanted: Condition) -> Node:
    return replace(
        node,
        is_drained=wanted is Condition.DRAINED,
        is_suspended=wanted is Condition.SUSPENDED,
        until=None,
        good_probes=0,
    )


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed with a node: the number of jobs of its pilots, and of files in its cache."""

    jobs: int
    files: int


def remove_node(
    context: Context, key: NodeKey, reason: str, by: Principal, *, unpin: bool
) -> Removed:
    """Removes a node, ends its pilots, and flushes its cache from the catalog.

    Raises `NotFoundError` (NODE_NOT_FOUND), `ForbiddenError` (SITE_ADMIN_REQUIRED), `PreconditionError`
    (NODE_HAS_PINS), and `UnavailableError` if the catalog is unavailable; the node is removed even then.
    """
    require_sites(by, [key.site], f"to remove node {key.node}")
    now = context.clock()
    who = by.name or by.subject
    with context.db.write() as tx:
        node = nodes.lock_nodes(tx, [key]).get(key)
        if node is None:
            raise unknown_node(key)
        if pins.get_for_update(tx, key) is not None:
            if not unpin:
                raise PreconditionError(
                    "NODE_HAS_PINS",
                    f"files are pinned on {key.node}; unpin them with the node "
                    f"(`pandawn nodes remove --unpin`), or pin them elsewhere first",
                    metadata={"site": key.site, "node": key.node},
                )
            pins.remove(tx, key)
        gone = pilots.pilots_of_node(tx, key)
        held = leases.lock_pilot_leases(tx, [pilot.pilot_id for pilot in gone])
        error = JobError(ErrorComponent.SERVER, 100, "NODE_REMOVED", f"{who} removed the node")
        end_attempts(
            tx,
            context.config.current(tx),
            [ending(lease, JobState.FAILED, error) for lease in held],
            now,
        )
        live = [pilot for pilot in gone if pilot.state is PilotState.LIVE]
        pilots.set_state(
            tx,
            [pilot.pilot_id for pilot in live],
            PilotState.ENDED,
            f"{who} removed the node: {reason}",
        )
        nodes.remove(tx, key)
        text = f"{who} removed {key.node} with {len(live)} pilots and {len(held)} jobs: {reason}"
        events.insert_events(
            tx,
            [
                Event(now, EventKind.NODE_REMOVED, text, node=key.node),
                *(
                    Event(
                        now,
                        EventKind.PILOT_ENDED,
                        f"the pilot ended: {who} removed its node",
                        queue=pilot.queue,
                        node=key.node,
                        pilot_id=pilot.pilot_id,
                    )
                    for pilot in live
                ),
            ],
        )
    refresh_pins(context)
    # Last, because the catalog may be unavailable. A repeated call then raises NODE_NOT_FOUND, and the entries expire.
    files = context.catalog.flush(key, context.rng.getrandbits(63) + 1, now) or 0
    context.desks.nodes_changed([key])
    return Removed(len(held), files)
