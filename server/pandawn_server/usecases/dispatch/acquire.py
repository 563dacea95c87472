"""Gives jobs to polling pilots: matches them, then claims and leases them in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pandawn_server.domain.catalog.inventory import CacheState, NodeKey
from pandawn_server.domain.dispatch.matching import sentence
from pandawn_server.domain.errors import PandawnError, UnavailableError
from pandawn_server.domain.leases.attempts import Match
from pandawn_server.domain.leases.leases import first_lease
from pandawn_server.domain.leases.pilots import contact_resolution
from pandawn_server.domain.queues.queues import Queue, QueueStatus, queue_offline
from pandawn_server.domain.tasks.jobs import Requirements
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.dispatch.handout import Offer, hand_out
from pandawn_server.storage.leases import leases, nodes, pilots
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.dispatch.desks import (
    AcquireCall,
    Caller,
    CallKey,
    Desk,
    request_name,
)
from pandawn_server.usecases.dispatch.doubt import (
    Delivery,
    answer_served,
    give_up,
    take_back,
    was_committed,
)
from pandawn_server.usecases.dispatch.feeding import feed_jobs, feed_nodes, prune
from pandawn_server.usecases.dispatch.leasing import repeated_grants
from pandawn_server.usecases.dispatch.reply_bounds import take_grants
from pandawn_server.usecases.dispatch.round import (
    IDLE_RETRY,
    AcquireAnswer,
    Scene,
    answer_to,
    answered,
)

CLAIM_ROUNDS = 4
"""How often to match at most, when other processes had already claimed the chosen jobs."""

_NOTHING = Requirements()

Deliver = Callable[[Sequence[Delivery]], None]
"""Takes the answers to waiting calls; called before any other round can learn that they no longer wait."""


def acquire_jobs(
    context: Context, calls: Sequence[AcquireCall], deliver: Deliver
) -> list[AcquireAnswer | PandawnError]:
    """Leases jobs to many pilots in one transaction; one answer per call, in order.

    A repeated request gets the same leases again. An answer may be `NotFoundError` (PILOT_NOT_FOUND) or
    `PreconditionError` (QUEUE_OFFLINE). A call with `waits` set that got nothing keeps waiting; a later round
    of this or of `serve_polls` answers it through `deliver`.
    """
    scene = _hand_out(context, calls, (), deliver)
    return [answer_to(call, scene) for call in calls]


def serve_polls(context: Context, queue_names: Iterable[str], deliver: Deliver) -> None:
    """Gives jobs that became runnable, or are no longer held, to waiting calls."""
    _hand_out(context, (), queue_names, deliver)


def _hand_out(
    context: Context,
    calls: Sequence[AcquireCall],
    queue_names: Iterable[str],
    deliver: Deliver,
) -> Scene:
    desks = context.desks
    scene = Scene(context.clock(), calls)
    try:
        with context.db.write() as tx:
            with desks.lock:
                # A repeat of a call that is being answered gets the same answer.
                desks.await_claims(scene.asked_now.keys())
                scene.now = context.clock()
                _prepare(context, tx, scene, queue_names)
                served = _calls_to_serve(context, tx, scene)
                chosen = [
                    _match_queue(context, tx, scene, scene.queue_of[name], served)
                    for name in sorted(scene.queue_of)
                ]
                _find_repeats(context, tx, scene)
            # Without the lock, so that others can match while the database works.
            for choice in chosen:
                _claim(context, tx, scene, choice)
    except BaseException as error:
        committed = was_committed(context, scene, error)
        if not committed:
            _undo(context, scene, error, deliver, in_doubt=committed is None)
            raise
    with desks.lock:
        deliveries: list[Delivery] = [
            (key, answered(scene.pilot_of[key[0]], tuple(grants), scene))
            for key, grants in scene.grants.items()
            if request_name(key) not in scene.asked_now
        ]
        for queue in scene.queue_of.values():
            if queue.status is QueueStatus.OFFLINE:
                deliveries += _end_polls(context, queue)
        deliveries += _answers_to_evicted(context, scene)
        if deliveries:
            deliver(deliveries)
        for desk, job_id in scene.returned:
            desk.matchmaker.give_back([job_id], scene.now)
        _end_claims(context, scene)
    return scene


def _end_polls(context: Context, queue: Queue) -> list[Delivery]:
    """Ends the polls of an offline queue; returns their answers."""
    desk = context.desks.get(queue.name)
    if desk is None:
        return []
    callers = [
        caller for caller in desk.polls.values() if not context.desks.is_answering(caller.name)
    ]
    for caller in callers:
        desk.cancel(caller.name)
    answer = AcquireAnswer(
        queue=queue.name,
        grants=(),
        inventory_requested=False,
        retry_after=IDLE_RETRY,
        idle_reason=queue_offline(queue).message,
        queue_revision=queue.revision,
        drain=True,
    )
    return [(caller.call.key, answer) for caller in callers]


def _undo(
    context: Context, scene: Scene, error: BaseException, deliver: Deliver, *, in_doubt: bool
) -> None:
    """Restores the state before a failed round, as far as the outcome is known."""
    deliveries: list[Delivery] = []
    with context.desks.lock:
        if in_doubt and isinstance(error, PandawnError):
            deliveries = give_up(context, scene, error)
        else:
            take_back(context, scene)
        if deliveries:
            deliver(deliveries)
        _end_claims(context, scene)
    if isinstance(error, UnavailableError) and error.reason == "DATABASE_CONFLICT":
        deliveries = answer_served(context, scene)
        if deliveries:
            deliver(deliveries)


def _answers_to_evicted(context: Context, scene: Scene) -> list[Delivery]:
    """Answers for the calls that were evicted because their nodes get no more jobs."""
    return [
        (caller.call.key, answered(pilot, (), scene))
        for caller in scene.evicted
        if caller.name not in scene.asked_now
        and (known := context.known.pilot(caller.call.pilot_id)) is not None
        and (pilot := known.pilot).queue in scene.queue_of
    ]


def _end_claims(context: Context, scene: Scene) -> None:
    for desk, job_id, _ in scene.open:
        desk.claiming.discard(job_id)
    context.desks.end_claims({caller.name for _, _, caller in scene.open})


def _prepare(context: Context, tx: Transaction, scene: Scene, queue_names: Iterable[str]) -> None:
    now = scene.now
    known = context.known.live_pilots(tx, {call.pilot_id for call in scene.calls}, now)
    scene.queue_of.update(
        context.config.queues(tx, {pilot.queue for pilot in known.values()} | set(queue_names), now)
    )
    # A queue with live pilots cannot be deleted, but a pilot may have registered at that moment.
    scene.pilot_of.update({i: p for i, p in known.items() if p.queue in scene.queue_of})
    _read_restricted_nodes(tx, scene)
    _record_contacts(context, tx, scene)


def _read_restricted_nodes(tx: Transaction, scene: Scene) -> None:
    restricted = nodes.restricted_nodes(tx)
    if not restricted:
        return
    for key, node in restricted.items():
        (scene.suspended if node.gets_none(scene.now) else scene.probed)[key] = node
    # A node on probation gets one job at a time.
    for key in leases.nodes_with_leases(tx, scene.probed):
        scene.suspended[key] = scene.probed.pop(key)


def _record_contacts(context: Context, tx: Transaction, scene: Scene) -> None:
    contacts: dict[str, NodeKey] = {}
    offers: dict[str, Requirements] = {}
    latest = {
        name: scene.now - contact_resolution(queue.lease_duration)
        for name, queue in scene.queue_of.items()
    }
    for call in scene.calls:
        pilot, known = scene.pilot_of.get(call.pilot_id), context.known.pilot(call.pilot_id)
        if pilot is None or known is None:
            continue
        # Free disk changes every second: for `why` it is enough to store it with each recorded contact.
        if known.contact_time <= latest[pilot.queue] or (
            known.offer == _NOTHING and call.offer != _NOTHING
        ):
            contacts[pilot.pilot_id] = pilot.key
            if known.offer != call.offer:
                offers[pilot.pilot_id] = call.offer
    pilots.record_polls(tx, contacts, offers, scene.now)
    context.known.record_contacts(contacts, scene.now)
    context.known.record_offers(offers)


def _calls_to_serve(context: Context, tx: Transaction, scene: Scene) -> list[AcquireCall]:
    if not scene.calls:
        return []
    # Only calls that may have been served before are looked up. If any other is a repeat, its lease exists already
    # and the insert fails: then all is rolled back, and each call is tried again alone.
    _grant_again(
        context,
        tx,
        scene,
        [
            call
            for call in scene.calls
            if call.pilot_id in scene.pilot_of
            and (context.known.may_repeat(*call.key) or len(scene.calls) == 1)
        ],
    )
    served: dict[CallKey, AcquireCall] = {}
    for call in scene.calls:
        pilot = scene.pilot_of.get(call.pilot_id)
        # A batch may hold a call and its repeat: the first is served, both get its leases.
        if pilot is not None and call.key not in scene.grants and scene.gets_jobs(pilot):
            served.setdefault(call.key, call)
    return list(served.values())


def _grant_again(
    context: Context, tx: Transaction, scene: Scene, calls: Iterable[AcquireCall]
) -> None:
    """Adds the leases that repeated calls got the first time."""
    keys = {call.key for call in calls} - scene.looked_up
    if not keys:
        return
    scene.looked_up |= keys
    scene.grants.update(
        repeated_grants(
            tx,
            context.known,
            keys,
            scene.queue_of,
            {pilot_id: scene.pilot_of[pilot_id].queue for pilot_id, _ in keys},
        )
    )


def _find_repeats(context: Context, tx: Transaction, scene: Scene) -> None:
    """Finds calls without a match that other processes have already served.

    Call with the lock, so that no other round serves such a call meanwhile.
    """
    matched = {caller.name for _, _, caller in scene.open}
    rest = [
        call
        for name, call in scene.asked_now.items()
        if name not in matched and call.pilot_id in scene.pilot_of
    ]
    _grant_again(context, tx, scene, rest)
    for call in rest:
        if call.key in scene.grants:
            context.desks.cancel_locked(request_name(call.key))


@dataclass(slots=True)
class _Choice:
    """Jobs chosen from one queue, with their callers."""

    queue: Queue
    desk: Desk
    matched: list[tuple[Caller, Match]]


def _match_queue(
    context: Context, tx: Transaction, scene: Scene, queue: Queue, served: Sequence[AcquireCall]
) -> _Choice:
    now = scene.now
    desk = context.desks.of(queue, now)
    callers: list[Caller] = []
    asking: dict[NodeKey, CacheState | None] = {}
    for call in served:
        pilot = scene.pilot_of[call.pilot_id]
        if pilot.queue == queue.name:
            if pilot.key in scene.probed:
                if any(caller.node == pilot.key for caller in callers):
                    continue
                callers.append(Caller.of(call._replace(max_jobs=1), pilot.key))
            else:
                callers.append(Caller.of(call, pilot.key))
            asking[pilot.key] = call.cache or asking.get(pilot.key)
    scene.inventories_requested |= feed_nodes(context, tx, queue, desk, asking, now)
    if queue.status is QueueStatus.OFFLINE:
        return _Choice(queue, desk, [])
    scene.evicted += desk.evict(scene.suspended)
    # A node on probation keeps one call: the new one, or else the first that waits.
    scene.evicted += desk.evict_extra(scene.probed, {caller.node for caller in callers})
    feed_jobs(tx, queue.name, desk, now)
    desk.ask(callers)
    matched = []
    if queue.status is not QueueStatus.PAUSED:
        matched = _matched(context, tx, scene, desk)
    _cancel_unserved(scene, desk, matched)
    return _Choice(queue, desk, matched)


def _cancel_unserved(scene: Scene, desk: Desk, matched: Sequence[tuple[Caller, Match]]) -> None:
    """Cancels the new calls that got nothing and do not wait."""
    names = {caller.name for caller, _ in matched}
    for name, call in scene.asked_now.items():
        if not call.waits and name not in names:
            desk.cancel(name)


def _matched(
    context: Context, tx: Transaction, scene: Scene, desk: Desk
) -> list[tuple[Caller, Match]]:
    """Runs the matchmaker; call with the lock."""
    assignments = desk.matchmaker.match(scene.now)
    callers = [desk.polls[a.request_id] for a in assignments]
    # The pilot of a waiting call may have ended meanwhile.
    others = {caller.call.pilot_id for caller in callers} - scene.pilot_of.keys()
    if others:
        scene.pilot_of.update(context.known.live_pilots(tx, others, scene.now))
    found = []
    for assignment, caller in zip(assignments, callers, strict=True):
        if caller.call.pilot_id in scene.pilot_of:
            found.append((caller, assignment.match))
            scene.open.append((desk, assignment.match.job_id, caller))
        else:
            desk.cancel(caller.name)
            desk.matchmaker.give_back([assignment.match.job_id], scene.now)
    desk.claiming.update(match.job_id for _, match in found)
    context.desks.begin_claims([caller.name for caller, _ in found])
    return found


def _claim(context: Context, tx: Transaction, scene: Scene, choice: _Choice) -> None:
    queue, desk, matched = choice.queue, choice.desk, choice.matched
    for rounds_left in reversed(range(CLAIM_ROUNDS)):
        if not matched:
            return
        offers = [_offer(context, scene, queue, caller, match) for caller, match in matched]
        handed = hand_out(tx, offers, scene.now)
        given = [(o, job) for o in offers if (job := handed.get(o.match.job_id)) is not None]
        take_grants(context, tx, scene, desk, given)
        with context.desks.lock:
            for offer, _ in given:
                desk.polls.pop(request_name((offer.pilot_id, offer.request_id)), None)
            if len(given) == len(offers):
                return
            # Another process also gives out jobs of this queue, or a user cancelled some.
            desk.matchmaker.lost({offer.match.job_id for offer in offers} - handed.keys())
            prune(tx, desk)
            desk.ask({c.name: c for c, _ in matched if c.name in desk.polls}.values())
            matched = _matched(context, tx, scene, desk) if rounds_left else []
            _cancel_unserved(scene, desk, matched)


def _offer(context: Context, scene: Scene, queue: Queue, caller: Caller, match: Match) -> Offer:
    call = caller.call
    return Offer(
        match=match,
        token=context.new_id(),
        pilot_id=call.pilot_id,
        key=caller.node,
        request_id=call.request_id,
        granted=len(scene.grants.get(call.key, ())),
        expire_time=scene.now + first_lease(queue.lease_duration),
        duration=queue.lease_duration,
        queue=queue.name,
        queue_revision=queue.revision,
        text=sentence(match, caller.node.node),
    )
