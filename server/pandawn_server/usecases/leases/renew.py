"""Heartbeats: renews leases, moves jobs on with their phases, and returns commands to pilots."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pandawn_server.domain.access.pilot_rights import may_speak_for, not_your_lease
from pandawn_server.domain.access.principals import Session
from pandawn_server.domain.catalog.inventory import CacheState, NodeKey
from pandawn_server.domain.errors import PandawnError, UnavailableError
from pandawn_server.domain.leases.leases import Lease, is_current, stale_lease
from pandawn_server.domain.leases.nodes import because_of_node
from pandawn_server.domain.leases.pilots import Pilot, PilotState, pilot_not_found
from pandawn_server.domain.queues.queues import Queue, QueueStatus
from pandawn_server.domain.tasks.jobs import JobState, Phase, state_in_phase
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import leases, nodes, pilots
from pandawn_server.storage.tasks import job_moves
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.leases.holders import other_holders


@dataclass(frozen=True, slots=True)
class Renewal:
    """One lease to renew, with what its pilot is doing."""

    job_id: int
    attempt: int
    lease_token: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One call of a pilot; `cache` is None if it has no cache, `session` is None if an operator calls.

    `longest` is an upper bound for the leases' duration; None means that of their queues.
    """

    pilot_id: str
    renewals: tuple[Renewal, ...]
    cache: CacheState | None
    session: Session | None
    longest: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease that holds for `duration` from now; `cancel` asks the pilot to stop the job."""

    duration: timedelta
    cancel: bool


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """One result per renewal, in order. `drain` is the reason why the pilot should end; None: it should not."""

    results: tuple[Renewed | PandawnError, ...]
    inventory_requested: bool
    drain: str | None
    queue_revision: int = 0


def renew_leases(
    context: Context, heartbeats: Sequence[Heartbeat]
) -> list[HeartbeatAnswer | PandawnError]:
    """Renews the leases of many pilots in one transaction; returns one answer per heartbeat, in order."""
    with context.db.write() as tx:
        now = context.clock()
        known = pilots.get_pilots(tx, {h.pilot_id for h in heartbeats})
        live = {i: p for i, p in known.items() if p.state is PilotState.LIVE}
        held = leases.lock_leases(tx, {r.job_id for h in heartbeats for r in h.renewals})
        others = other_holders(
            tx,
            (
                (h.session, held[r.job_id].pilot_id)
                for h in heartbeats
                for r in h.renewals
                if r.job_id in held
            ),
        )
        renewals: dict[int, leases.NewTerm] = {}
        results = [
            tuple(_renew(held, others, h, renewal, renewals) for renewal in h.renewals)
            for h in heartbeats
        ]
        leases.renew(tx, list(renewals.values()), now)
        job_moves.advance(tx, _moves(renewals), now)
        queue_of = context.config.queues(tx, {p.queue for p in live.values()}, now)
        drained = {
            key: because_of_node(node, now)
            for key, node in nodes.restricted_nodes(tx).items()
            if node.is_drained
        }
        record_contacts(
            tx,
            [
                p
                for p in live.values()
                if p.queue not in queue_of
                or p.contact_is_due(now, queue_of[p.queue].lease_duration)
            ],
            now,
        )
    wanted = inventories_wanted(
        context,
        [(live[h.pilot_id].key, h.cache) for h in heartbeats if h.cache and h.pilot_id in live],
    )
    return [
        HeartbeatAnswer(
            result,
            inventory_requested=live[h.pilot_id].key in wanted if h.cache else False,
            drain=_drains(live[h.pilot_id].queue, queue_of.get(live[h.pilot_id].queue))
            or drained.get(live[h.pilot_id].key),
            queue_revision=_revision(queue_of.get(live[h.pilot_id].queue)),
        )
        if h.pilot_id in live
        else pilot_not_found(h.pilot_id)
        for h, result in zip(heartbeats, results, strict=True)
    ]


def _drains(name: str, queue: Queue | None) -> str | None:
    if queue is None:
        return f"queue {name} was removed"
    if queue.status is not QueueStatus.OFFLINE:
        return None
    return f"queue {name} is offline" + (f": {queue.state_reason}" if queue.state_reason else "")


def _revision(queue: Queue | None) -> int:
    return 0 if queue is None else queue.revision


def _renew(
    held: Mapping[int, Lease],
    others: Mapping[str, Pilot],
    heartbeat: Heartbeat,
    renewal: Renewal,
    renewals: dict[int, leases.NewTerm],
) -> Renewed | PandawnError:
    lease = held.get(renewal.job_id)
    if lease is None or not is_current(lease, renewal.attempt, renewal.lease_token):
        return stale_lease(renewal.job_id, renewal.attempt)
    if not may_speak_for(heartbeat.session, lease.pilot_id, others.get(lease.pilot_id)):
        return not_your_lease(renewal.job_id, renewal.attempt)
    # The lease is renewed even if its pilot was marked as lost: it holds the token, and will register
    # again and report.
    duration = min(lease.duration, heartbeat.longest or lease.duration)
    renewals[lease.job_id] = leases.NewTerm(lease, renewal.phase, duration)
    return Renewed(duration, lease.cancel_requested)


def _moves(renewals: dict[int, leases.NewTerm]) -> dict[int, JobState]:
    moves = {}
    for job_id, term in renewals.items():
        lease = term.lease
        state = state_in_phase(lease.job_state, term.phase)
        if state is not lease.job_state:
            moves[job_id] = state
    return moves


def record_contacts(tx: Transaction, due: Collection[Pilot], now: datetime) -> None:
    """Records a contact of pilots and their nodes."""
    pilots.record_contact(tx, [pilot.pilot_id for pilot in due], now)
    nodes.record_contact(tx, {pilot.key for pilot in due}, now)


def inventories_wanted(
    context: Context, states: Sequence[tuple[NodeKey, CacheState]]
) -> set[NodeKey]:
    """The nodes whose caches differ from the catalog; empty while the catalog is unavailable."""
    if not states:
        return set()
    try:
        wanted = context.catalog.touch(states, context.clock())
    except UnavailableError:
        # The catalog is only a hint: work goes on, and the catalog client counts the failure.
        return set()
    return {key for (key, _), needed in zip(states, wanted, strict=True) if needed}
