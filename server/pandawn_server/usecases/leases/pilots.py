"""Registers and deregisters pilots."""

from __future__ import annotations

from dataclasses import dataclass

from pandawn_server.domain.access.host_admission import HostFacts
from pandawn_server.domain.access.pilot_rights import (
    check_holds_name,
    check_pilot_of_node,
    not_your_pilot,
)
from pandawn_server.domain.access.principals import Principal, Session
from pandawn_server.domain.access.vouching import credential_of, same_holder
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import (
    InvalidRequestError,
    Violation,
)
from pandawn_server.domain.leases.pilots import HOLDS_FOR, Pilot, PilotState, pilot_not_found
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.queues import Queue, QueueStatus, queue_not_found, queue_offline
from pandawn_server.domain.tasks.jobs import JobState, pilot_ended
from pandawn_server.storage.access import vouchers
from pandawn_server.storage.leases import leases, nodes, pilots
from pandawn_server.storage.monitor import events
from pandawn_server.usecases.access.admission import check_bringer, queue_to_serve
from pandawn_server.usecases.access.sessions import begin_session
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.leases.ending import end_attempts, ending


@dataclass(frozen=True, slots=True)
class Registration:
    """What a pilot states about itself when it registers."""

    request_id: str
    queue: str
    node: str
    host: str
    pilot_version: str
    batch_id: str
    transports: tuple[str, ...]
    node_key: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """A pilot, its queue, and the session token for its further calls."""

    pilot: Pilot
    queue: Queue
    session_token: str


def register_pilot(
    context: Context, registration: Registration, by: Principal, facts: HostFacts | None = None
) -> Registered:
    """Registers a pilot; the same `request_id` returns the same pilot, with another token.

    Raises `NotFoundError` (QUEUE_NOT_FOUND, PILOT_NOT_FOUND: the pilot of this `request_id` has ended),
    `PreconditionError` (QUEUE_OFFLINE), `ForbiddenError` (NODE_HELD), and what `check_bringer` raises.
    """
    queue = queue_to_serve(context, registration.queue)
    check_bringer(context, queue, registration.node, by, facts)
    pilot, queue = _register(context, registration, by)
    session = Session(pilot.pilot_id, pilot.queue, pilot.key)
    return Registered(pilot, queue, begin_session(context, session)[0])


def _register(context: Context, registration: Registration, by: Principal) -> tuple[Pilot, Queue]:
    with context.db.write() as tx:
        now = context.clock()
        queue = context.config.queue(tx, registration.queue, now)
        if queue is None:
            raise queue_not_found(registration.queue)
        known = pilots.find_registration(tx, registration.request_id)
        if known is not None:
            if known.queue != registration.queue or known.key.node != registration.node:
                raise InvalidRequestError.of(
                    [Violation("request_id", "was used for a pilot of another queue or node")]
                )
            # The identifier is no secret: only its first caller may get a session for this pilot.
            first = vouchers.credentials(tx, [known.pilot_id]).get(known.pilot_id)
            if first is not None and not same_holder(first, credential_of(by)) and by.nodes is None:
                raise InvalidRequestError.of(
                    [Violation("request_id", "was used by another credential")]
                )
            # The queue may have moved, and then the node belongs to another site.
            if known.state is not PilotState.LIVE or known.key.site != queue.site:
                raise pilot_not_found(known.pilot_id)
            # The credential may have been renewed, and then expires later.
            vouchers.record(tx, known.pilot_id, credential_of(by), registration.node_key)
            # Even if the queue is offline by now: the pilot may have jobs to finish and report.
            return known, queue
        if queue.status is QueueStatus.OFFLINE:
            raise queue_offline(queue)
        pilot = Pilot(
            pilot_id=context.new_id(),
            queue=queue.name,
            key=NodeKey(queue.site, registration.node),
            host=registration.host,
            pilot_version=registration.pilot_version,
            batch_id=registration.batch_id,
            transports=registration.transports,
            state=PilotState.LIVE,
            register_time=now,
            contact_time=now,
        )
        holders = vouchers.holders(tx, pilot.key, now - HOLDS_FOR)
        check_holds_name(by, vouchers.digest(registration.node_key), pilot.key, holders)
        pilots.insert_pilot(tx, pilot, registration.request_id)
        vouchers.record(tx, pilot.pilot_id, credential_of(by), registration.node_key)
        nodes.record_contact(tx, [pilot.key], now)
        text = (
            f"pilot {pilot.pilot_version or '?'} started on {pilot.key.node} for queue {queue.name}; "
            f"rule {by.rule!r} admitted {by.subject or by.name}"
        )
        events.insert_events(
            tx,
            [
                Event(
                    now,
                    EventKind.PILOT_REGISTERED,
                    text,
                    queue=queue.name,
                    node=pilot.key.node,
                    pilot_id=pilot.pilot_id,
                )
            ],
        )
    return pilot, queue


def deregister_pilot(context: Context, pilot_id: str, reason: str, by: Principal) -> int:
    """Ends a pilot and its attempts; returns the number of jobs that it still had.

    Raises `NotFoundError` (PILOT_NOT_FOUND) and `ForbiddenError` (NOT_YOUR_PILOT).
    """
    with context.db.write() as tx:
        now = context.clock()
        own_id = by.session.pilot_id if by.session is not None else ""
        found = pilots.get_pilots(tx, {pilot_id, own_id} - {""})
        pilot, own = found.get(pilot_id), found.get(own_id)
        check_pilot_of_node(by, pilot_id, pilot)
        # The gate admits an ended pilot here, so that it can retry the call for itself, but not for a live pilot.
        if own_id not in {"", pilot_id} and (own is None or own.state is not PilotState.LIVE):
            raise not_your_pilot(pilot_id)
        if pilot is None:
            raise pilot_not_found(pilot_id)
        held = leases.lock_pilot_leases(tx, [pilot_id])
        end_attempts(
            tx,
            context.config.current(tx),
            [ending(lease, JobState.FAILED, pilot_ended()) for lease in held],
            now,
        )
        if pilot.state is PilotState.LIVE:
            pilots.set_state(tx, [pilot_id], PilotState.ENDED, reason)
            events.insert_events(
                tx,
                [
                    Event(
                        now,
                        EventKind.PILOT_ENDED,
                        f"the pilot ended: {reason or 'it gave no reason'}",
                        queue=pilot.queue,
                        node=pilot.key.node,
                        pilot_id=pilot_id,
                    )
                ],
            )
    return len(held)
