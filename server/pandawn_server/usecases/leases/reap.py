"""The reaper: ends attempts whose leases lapsed, marks silent pilots as lost, closes ended tasks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pandawn_server.domain.leases.leases import Lease, clock_went_back, server_was_away
from pandawn_server.domain.leases.pilots import LOST_AFTER_LEASES, PilotState
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.queues.queues import Queue
from pandawn_server.domain.tasks.jobs import JobState, lost_heartbeat, not_acknowledged
from pandawn_server.storage import claims
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import leases, pilots
from pandawn_server.storage.monitor import events
from pandawn_server.storage.tasks import tasks
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.leases.ending import Ended, Ending, end_attempts, ending

BATCH = 500
"""Rows per transaction: a whole site that lost its power must not block all others."""

CLAIM_INTERVALS = 1.5
"""Length of a claim in intervals. It exceeds one interval with its jitter, so that a live reaper keeps the claim.
It is short enough for another to take over before the gap looks like an absence of all servers."""

_GRACE = "grace"
"""Name of the claim that is held while pilots may still need to reconnect after an outage."""


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one run did; `was_granted` is False if another process holds the claim."""

    was_granted: bool
    ended: Ended = field(default_factory=lambda: Ended({}))
    lost_pilots: int = 0
    closed_tasks: int = 0


def reap(
    context: Context,
    owner: str,
    interval: timedelta,
) -> Reaped:
    """Runs the reaper once; each server process repeats it every `interval`.

    `owner` names the process; a claim lets only one of them work at a time. After an outage of all servers
    leases get one more length before they lapse, because pilots could not renew them.
    """
    with context.db.write() as tx:
        now = context.clock()
        granted, last_run = claims.claim(tx, "reaper", owner, now, interval * CLAIM_INTERVALS)
        if not granted:
            return Reaped(was_granted=False)
        config = context.config.current(tx)
        known = config.queues(now)
        has_grace = _give_grace(tx, owner, known, last_run, now, interval)
        ended = _end_lapsed(tx, config, now)
        by_lease: dict[timedelta, list[str]] = {}
        for queue in known:
            by_lease.setdefault(queue.lease_duration, []).append(queue.name)
        lost = [
            pilot_id
            for lease_duration, names in by_lease.items()
            # Pilots that could not reach a server are not lost.
            if not has_grace
            for pilot_id in _lose_silent(tx, names, lease_duration, now)
        ]
        closed = _close_tasks(tx, now)
    return Reaped(was_granted=True, ended=ended, lost_pilots=len(lost), closed_tasks=closed)


def _give_grace(
    tx: Transaction,
    owner: str,
    known: Collection[Queue],
    last_run: datetime | None,
    now: datetime,
    interval: timedelta,
) -> bool:
    """Extends all leases after an outage in which no pilot could reach a server.

    Returns whether pilots still have time to reconnect after such an outage.
    """
    if clock_went_back(last_run, now):
        leases.set_terms(tx, now, later=True)
    if not server_was_away(last_run, now, interval):
        return claims.is_held(tx, _GRACE, now)
    leases.set_terms(tx, now, later=False)
    longest = max((queue.lease_duration for queue in known), default=timedelta(0))
    claims.hold(tx, _GRACE, owner, now, longest)
    return True


def _end_lapsed(tx: Transaction, config: Configuration, now: datetime) -> Ended:
    lapsed = leases.lock_lapsed(tx, now, BATCH)
    return end_attempts(tx, config, [_lapse(lease) for lease in lapsed], now)


def _lapse(lease: Lease) -> Ending:
    if not lease.is_acknowledged:
        # No pilot started it: it is runnable again, as if it had never been handed out.
        return ending(lease, JobState.ACTIVATED, not_acknowledged())
    return ending(lease, JobState.FAILED, lost_heartbeat(lease.phase))


def _lose_silent(
    tx: Transaction, queue_names: Collection[str], lease_duration: timedelta, now: datetime
) -> list[str]:
    silence = lease_duration * LOST_AFTER_LEASES
    silent = pilots.silent_pilots(tx, queue_names, now - silence, BATCH)
    reason = f"without contact for more than {silence}"
    pilots.set_state(tx, [pilot.pilot_id for pilot in silent], PilotState.LOST, reason)
    events.insert_events(
        tx,
        [
            Event(
                now,
                EventKind.PILOT_LOST,
                f"the pilot on {pilot.key.node} was {reason}",
                queue=pilot.queue,
                node=pilot.key.node,
                pilot_id=pilot.pilot_id,
            )
            for pilot in silent
        ],
    )
    return [pilot.pilot_id for pilot in silent]


def _close_tasks(tx: Transaction, now: datetime) -> int:
    closed = tasks.close_ended(tx, now, BATCH)
    progress = tasks.get_progress(tx, [task.task_id for task in closed])
    events.insert_events(
        tx,
        [
            Event(
                now,
                EventKind[f"TASK_{progress[task.task_id].state.name}"],
                f"all jobs of task {task.task_id} ({task.spec.dataset}) have ended",
                task_id=task.task_id,
                queue=task.queue,
                user=task.spec.user,
            )
            for task in closed
        ],
    )
    return len(closed)
