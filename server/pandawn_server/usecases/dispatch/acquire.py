"""Pilots ask for work: jobs are matched to all who ask or wait, claimed and leased in one transaction."""

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
    answer_the_served,
    give_up,
    take_back,
    was_done,
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
"""How often jobs are matched anew when other processes had claimed the chosen ones."""

_NOTHING = Requirements()

Deliver = Callable[[Sequence[Delivery]], None]
"""Takes the answers to calls that waited; called before anybody else can learn that they wait no longer."""


def acquire_jobs(
    context: Context, calls: Sequence[AcquireCall], deliver: Deliver
) -> list[AcquireAnswer | PandawnError]:
    """Leases jobs to many pilots in one transaction; one answer a call, in order.

    A repeated request gets the leases it got before. An answer may be `NotFoundError`
    (PILOT_NOT_FOUND) or `PreconditionError` (QUEUE_OFFLINE). A call that says that it waits, and got nothing,
    is answered through `deliver` later, by whatever call of this or of `serve_polls` has a job for it.
    """
    scene = _hand_out(context, calls, (), deliver)
    return [answer_to(call, scene) for call in calls]


def serve_polls(context: Context, queue_names: Iterable[str], deliver: Deliver) -> None:
    """Gives jobs that became runnable, or are no longer held, to calls that wait."""
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
                # A call whose repeat is just being answered gets what that gets.
                desks.await_claims(scene.asked_now.keys())
                scene.now = context.clock()
                _look_around(context, tx, scene, queue_names)
                served = _calls_to_serve(context, tx, scene)
                chosen = [
                    _match_queue(context, tx, scene, scene.queue_of[name], served)
                    for name in sorted(scene.queue_of)
                ]
                _look_up_rest(context, tx, scene)
            # Without the lock: others match while the database works.
            for choice in chosen:
                _claim(context, tx, scene, choice)
    except BaseException as error:
        done = was_done(context, scene, error)
        if not done:
            _undo(context, scene, error, deliver, in_doubt=done is None)
            raise
    with desks.lock:
        deliveries: list[Delivery] = [
            (key, answered(scene.pilot_of[key[0]], tuple(grants), scene))
            for key, grants in scene.grants.items()
            if request_name(key) not in scene.asked_now
        ]
        for queue in scene.queue_of.values():
            if queue.status is QueueStatus.OFFLINE:
                deliveries += _sent_away(context, queue)
        deliveries += _dismissed(context, scene)
        if deliveries:
            deliver(deliveries)
        for desk, job_id in scene.returned:
            desk.matchmaker.give_back([job_id], scene.now)
        _end_claims(context, scene)
    return scene


def _sent_away(context: Context, queue: Queue) -> list[Delivery]:
    """Those who wait for jobs of a queue that gives out none are told at once, and wait no longer."""
    desk = context.desks.get(queue.name)
    if desk is None:
        return []
    callers = [
        caller for caller in desk.polls.values() if not context.desks.is_answering(caller.name)
    ]
    for caller in callers:
        desk.withdraw(caller.name)
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
    """Puts things as they were before a round that failed, as far as it is known what it did."""
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
        deliveries = answer_the_served(context, scene)
        if deliveries:
            deliver(deliveries)


def _dismissed(context: Context, scene: Scene) -> list[Delivery]:
    """Those who waited on nodes that get no jobs any more are told at once."""
    return [
        (caller.call.key, answered(pilot, (), scene))
        for caller in scene.dismissed
        if caller.name not in scene.asked_now
        and (known := context.known.pilot(caller.call.pilot_id)) is not None
        and (pilot := known.pilot).queue in scene.queue_of
    ]


def _end_claims(context: Context, scene: Scene) -> None:
    for desk, job_id, _ in scene.open:
        desk.claiming.discard(job_id)
    context.desks.end_claims({caller.name for _, _, caller in scene.open})


def _look_around(
    context: Context, tx: Transaction, scene: Scene, queue_names: Iterable[str]
) -> None:
    now = scene.now
    known = context.known.live_pilots(tx, {call.pilot_id for call in scene.calls}, now)
    scene.queue_of.update(
        context.config.queues(tx, {pilot.queue for pilot in known.values()} | set(queue_names), now)
    )
    # A queue with live pilots cannot be deleted, but one may have come just then.
    scene.pilot_of.update({i: p for i, p in known.items() if p.queue in scene.queue_of})
    _look_at_nodes(tx, scene)
    _note_contacts(context, tx, scene)


def _look_at_nodes(tx: Transaction, scene: Scene) -> None:
    restricted = nodes.restricted_nodes(tx)
    if not restricted:
        return
    for key, node in restricted.items():
        (scene.suspended if node.gets_none(scene.now) else scene.probed)[key] = node
    # One job at a time: who has one gets none.
    for key in leases.nodes_with_leases(tx, scene.probed):
        scene.suspended[key] = scene.probed.pop(key)


def _note_contacts(context: Context, tx: Transaction, scene: Scene) -> None:
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
        # Free disk changes by the second: one note with each noted contact is enough for `why`.
        if known.contact_time <= latest[pilot.queue] or (
            known.offer == _NOTHING and call.offer != _NOTHING
        ):
            contacts[pilot.pilot_id] = pilot.key
            if known.offer != call.offer:
                offers[pilot.pilot_id] = call.offer
    pilots.note_asked(tx, contacts, offers, scene.now)
    context.known.note_contacts(contacts, scene.now)
    context.known.note_offers(offers)


def _calls_to_serve(context: Context, tx: Transaction, scene: Scene) -> list[AcquireCall]:
    if not scene.calls:
        return []
    # Of many calls those are looked up that may have been served before. What else is a repeat wants a lease that there
    # is already: all is undone then, and each call comes again, alone.
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
        # A call and its repeat may stand in one batch: the first is served, both get its leases.
        if pilot is not None and call.key not in scene.grants and scene.gets_jobs(pilot):
            served.setdefault(call.key, call)
    return list(served.values())


def _grant_again(
    context: Context, tx: Transaction, scene: Scene, calls: Iterable[AcquireCall]
) -> None:
    """Gives calls what they got when they came before."""
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


def _look_up_rest(context: Context, tx: Transaction, scene: Scene) -> None:
    """Sees whether calls that get nothing are repeats of ones that other processes have served.

    With the lock: nobody serves such a call meanwhile.
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
            context.desks.drop(request_name(call.key))


@dataclass(slots=True)
class _Choice:
    """Jobs that were chosen of a queue, and for whom."""

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
    scene.inventories_wanted |= feed_nodes(context, tx, queue, desk, asking, now)
    if queue.status is QueueStatus.OFFLINE:
        return _Choice(queue, desk, [])
    scene.dismissed += desk.dismiss(scene.suspended)
    # Whoever waits on a node on probation makes room for who asks now, or for the first of them.
    scene.dismissed += desk.dismiss_others(scene.probed, {caller.node for caller in callers})
    feed_jobs(tx, queue.name, desk, now)
    desk.ask(callers)
    matched = []
    if queue.status is not QueueStatus.PAUSED:
        matched = _matched(context, tx, scene, desk)
    _let_go(scene, desk, matched)
    return _Choice(queue, desk, matched)


def _let_go(scene: Scene, desk: Desk, matched: Sequence[tuple[Caller, Match]]) -> None:
    """Who got nothing, and does not wait, asks no longer."""
    names = {caller.name for caller, _ in matched}
    for name, call in scene.asked_now.items():
        if not call.waits and name not in names:
            desk.withdraw(name)


def _matched(
    context: Context, tx: Transaction, scene: Scene, desk: Desk
) -> list[tuple[Caller, Match]]:
    """Matches, with the lock."""
    assignments = desk.matchmaker.match(scene.now)
    callers = [desk.polls[a.request_id] for a in assignments]
    # Among those that waited one may have ended meanwhile.
    others = {caller.call.pilot_id for caller in callers} - scene.pilot_of.keys()
    if others:
        scene.pilot_of.update(context.known.live_pilots(tx, others, scene.now))
    found = []
    for assignment, caller in zip(assignments, callers, strict=True):
        if caller.call.pilot_id in scene.pilot_of:
            found.append((caller, assignment.match))
            scene.open.append((desk, assignment.match.job_id, caller))
        else:
            desk.withdraw(caller.name)
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
            # Another process gives out jobs of this queue too, or somebody cancelled some.
            desk.matchmaker.lost({offer.match.job_id for offer in offers} - handed.keys())
            prune(tx, desk)
            desk.ask({c.name: c for c, _ in matched if c.name in desk.polls}.values())
            matched = _matched(context, tx, scene, desk) if rounds_left else []
            _let_go(scene, desk, matched)


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
