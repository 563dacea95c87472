"""Pilots ask for work: candidates are matched to their nodes, claimed, and leased in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pandawn_server.domain.errors import PandawnError
from pandawn_server.domain.inventory import CacheState, NodeKey
from pandawn_server.domain.jobs import Requirements
from pandawn_server.domain.matching import Candidate, Match, Rules, choose
from pandawn_server.domain.pilots import Pilot, PilotState
from pandawn_server.domain.queues import Queue, QueueStatus
from pandawn_server.storage import job_moves, jobs, leases, nodes, pilots, queues
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import NewLease
from pandawn_server.storage.nodes import Node
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.leasing import Claimed, Grant, grants_of, lease_jobs
from pandawn_server.usecases.locality import shares_for
from pandawn_server.usecases.register_pilot import pilot_not_found, queue_offline
from pandawn_server.usecases.renew_leases import inventories_wanted, note_contacts

CANDIDATES = 200
"""Runnable jobs compared for a node, best by priority and age: twenty times what PanDA looked at in
2010, and still one page of one index."""

CLAIM_ROUNDS = 3
"""How often candidates are read again when other processes claimed the chosen ones first."""

IDLE_RETRY = timedelta(seconds=2)
"""When a pilot that got nothing should ask again; it waits in the server meanwhile, if it can."""


@dataclass(frozen=True, slots=True)
class AcquireCall:
    """One call of a pilot; `cache` is None when it has none."""

    pilot_id: str
    request_id: str
    max_jobs: int
    offer: Requirements
    cache: CacheState | None

    @property
    def key(self) -> tuple[str, str]:
        """Names the call; a repeated one has the same."""
        return self.pilot_id, self.request_id


@dataclass(frozen=True, slots=True)
class AcquireAnswer:
    """What a pilot gets. `queue` is where new work for it would appear."""

    queue: str
    grants: tuple[Grant, ...]
    inventory_requested: bool
    retry_after: timedelta
    idle_reason: str


@dataclass(frozen=True, slots=True)
class _Scene:
    """Who asks, as read at the beginning of the transaction."""

    now: datetime
    pilot_of: Mapping[str, Pilot]
    queue_of: Mapping[str, Queue]
    node_of: Mapping[NodeKey, Node]

    def queue(self, pilot: Pilot) -> Queue:
        return self.queue_of[pilot.queue]

    def suspended(self, pilot: Pilot) -> Node | None:
        node = self.node_of.get(pilot.key)
        return node if node is not None and node.is_suspended(self.now) else None

    def gets_jobs(self, pilot: Pilot) -> bool:
        return self.queue(pilot).status is not QueueStatus.OFFLINE and self.suspended(pilot) is None


def acquire_jobs(
    context: Context, calls: Sequence[AcquireCall]
) -> list[AcquireAnswer | PandawnError]:
    """Leases jobs to many pilots in one transaction; one answer a call, in order.

    A repeated request gets the leases it got before. An answer may be `NotFoundError`
    (PILOT_NOT_FOUND) or `PreconditionError` (QUEUE_OFFLINE).
    """
    with context.db.write() as tx:
        scene = _look_around(tx, calls, context.clock())
        leased = leases.get_granted(tx, {call.key for call in calls})
        served = _calls_to_serve(calls, scene, leased)
        claimed = _match_and_claim(context, tx, served, scene)
        leased |= lease_jobs(context, tx, claimed, scene.queue_of, scene.now)
        grants = grants_of(tx, leased, scene.pilot_of, scene.queue_of)
    wanted = inventories_wanted(
        context,
        [
            (scene.pilot_of[call.pilot_id].key, call.cache)
            for call in calls
            if call.cache is not None and call.pilot_id in scene.pilot_of
        ],
    )
    return [_answer(call, scene, leased, grants, wanted) for call in calls]


def _look_around(tx: Transaction, calls: Sequence[AcquireCall], now: datetime) -> _Scene:
    known = pilots.get_pilots(tx, {call.pilot_id for call in calls})
    live = {i: pilot for i, pilot in known.items() if pilot.state is PilotState.LIVE}
    scene = _Scene(
        now,
        live,
        queues.get_queues(tx, {pilot.queue for pilot in live.values()}),
        nodes.get_nodes(tx, {pilot.key for pilot in live.values()}),
    )
    note_contacts(tx, live.values(), now)
    pilots.note_offers(
        tx,
        {c.pilot_id: c.offer for c in calls if c.pilot_id in live and _is_news(c, live, now)},
    )
    return scene


def _is_news(call: AcquireCall, live: Mapping[str, Pilot], now: datetime) -> bool:
    pilot = live[call.pilot_id]
    # Free disk changes by the second: one note with each noted contact is enough for `why`.
    return pilot.offer != call.offer and (
        pilot.offer == Requirements() or pilot.contact_is_due(now)
    )


def _calls_to_serve(
    calls: Sequence[AcquireCall],
    scene: _Scene,
    leased: Mapping[tuple[str, str], Sequence[NewLease]],
) -> list[AcquireCall]:
    served: dict[tuple[str, str], AcquireCall] = {}
    for call in calls:
        pilot = scene.pilot_of.get(call.pilot_id)
        # A call and its repeat may stand in one batch: the first is served, both get its leases.
        if pilot is not None and call.key not in leased and scene.gets_jobs(pilot):
            served.setdefault(call.key, call)
    return list(served.values())


def _match_and_claim(
    context: Context, tx: Transaction, calls: Sequence[AcquireCall], scene: _Scene
) -> list[Claimed]:
    claimed: list[Claimed] = []
    missing = {call.key: call.max_jobs for call in calls}
    for _ in range(CLAIM_ROUNDS):
        chosen = _choose(context, tx, [c for c in calls if missing[c.key]], missing, scene)
        won = job_moves.claim(tx, {match.job_id for _, match in chosen}, scene.now)
        for call, match in chosen:
            if match.job_id in won:
                pilot = scene.pilot_of[call.pilot_id]
                claimed.append(Claimed(pilot, call.request_id, match, won[match.job_id]))
                missing[call.key] -= 1
        if len(won) == len(chosen):
            break
    return claimed


def _choose(
    context: Context,
    tx: Transaction,
    calls: Sequence[AcquireCall],
    missing: Mapping[tuple[str, str], int],
    scene: _Scene,
) -> list[tuple[AcquireCall, Match]]:
    chosen: list[tuple[AcquireCall, Match]] = []
    for name in sorted({scene.pilot_of[call.pilot_id].queue for call in calls}):
        queue = scene.queue_of[name]
        candidates: list[Candidate] = jobs.candidates(tx, name, CANDIDATES)
        mine = [call for call in calls if scene.pilot_of[call.pilot_id].queue == name]
        keys = {scene.pilot_of[call.pilot_id].key for call in mine}
        shares = shares_for(context, tx, queue, keys, candidates, scene.now) if candidates else {}
        rules = Rules(queue.priority_band, queue.locality_wait, queue.max_input_bytes)
        for call in mine:
            if not candidates:
                break
            key = scene.pilot_of[call.pilot_id].key
            matches = choose(
                candidates, call.offer, shares[key], rules, scene.now, missing[call.key]
            )
            chosen += [(call, match) for match in matches]
            taken = {match.job_id for match in matches}
            candidates = [job for job in candidates if job.job_id not in taken]
    return chosen


def _answer(
    call: AcquireCall,
    scene: _Scene,
    leased: Mapping[tuple[str, str], Sequence[NewLease]],
    grants: Mapping[int, Grant],
    wanted: set[NodeKey],
) -> AcquireAnswer | PandawnError:
    pilot = scene.pilot_of.get(call.pilot_id)
    if pilot is None:
        return pilot_not_found(call.pilot_id)
    mine = leased.get(call.key, ())
    if not mine and scene.queue(pilot).status is QueueStatus.OFFLINE:
        return queue_offline(pilot.queue)
    retry_after, reason = IDLE_RETRY, ""
    node = scene.suspended(pilot)
    if not mine and node is not None and node.suspended_until is not None:
        retry_after = node.suspended_until - scene.now
        until = f"{node.suspended_until:%H:%M:%S} UTC"
        reason = f"the node gets no jobs until {until}: {node.suspend_reason}"
    elif not mine:
        reason = f"queue {pilot.queue} has no job for this node now"
    return AcquireAnswer(
        queue=pilot.queue,
        grants=tuple(grants[lease.job_id] for lease in mine),
        inventory_requested=pilot.key in wanted,
        retry_after=retry_after,
        idle_reason=reason,
    )
