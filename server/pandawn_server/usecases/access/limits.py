"""Who may submit to which queue and how much, and when jobs of users with a limit become runnable.

A limit of running jobs is enforced before jobs are matched: on a queue at most that many jobs of the user are
runnable or with pilots at a time; the others wait as throttled. So limits do not slow down dispatch, and no
pilot ever has to give back a job because of a limit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pandawn_server.domain.access.lists import (
    NO_LIMIT,
    Decision,
    Identity,
    QueueRules,
    decide,
)
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.errors import ExhaustedError, ForbiddenError
from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.queues.queues import Queue
from pandawn_server.storage import claims
from pandawn_server.storage.access import limits, lists
from pandawn_server.storage.access.limits import Load
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks import job_moves, jobs
from pandawn_server.usecases.context import Context

CLAIM_INTERVALS = 1.5
"""Length of the claim of a periodic run in intervals, as for the reaper."""

RETRIES_AT_ONCE = 1000
"""The largest number of jobs whose pauses one run ends: after a storage outage there may be many."""


def identity_for(tx: Transaction, by: Principal, user: str, now: datetime) -> Identity:
    """The identity to check against the lists when a caller submits for a user.

    For the caller itself it is taken from the credential of this call, and stored; for others it is the last stored.
    """
    if by.name and by.name == user:
        who = Identity.of(by)
        lists.record_identity(tx, who, now)
        return who
    return lists.get_identities(tx, [user]).get(user, Identity(user))


def decisions(
    tx: Transaction, known: Collection[Queue], who: Identity, now: datetime
) -> dict[str, Decision]:
    """The decisions of the lists of some queues about a user, by queue."""
    names = [queue.name for queue in known]
    about = lists.entries_about(tx, names, who.user)
    return {queue.name: decide(about[queue.name], who, rules_of(queue), now) for queue in known}


def rules_of(queue: Queue) -> QueueRules:
    """The parameters of a queue that apply to users without an entry in its list."""
    return QueueRules(
        is_open=queue.open_access,
        max_running=queue.max_running_per_user,
        max_waiting=queue.max_waiting_per_user,
    )


def access_denied(who: Identity, queue: Queue) -> ForbiddenError:
    """The error for a queue that the user may not use. It does not disclose the list."""
    return ForbiddenError(
        "QUEUE_ACCESS_DENIED",
        f"{who.user} may not use queue {queue.name!r}; ask the administrators of site {queue.site} for access, "
        "or use another queue",
        metadata={"queue": queue.name, "site": queue.site, "user": who.user},
    )


@dataclass(frozen=True, slots=True)
class Room:
    """A user's jobs on a queue, and the limit of waiting jobs; `limit` is None if there is none."""

    load: Load
    limit: int | None

    def takes(self, number: int) -> bool:
        """Whether `number` more jobs stay within the limit."""
        return self.limit is None or self.load.waiting + number <= self.limit


def waiting_room(tx: Transaction, queue: str, user: str, decision: Decision) -> Room:
    """The room under the limit of waiting jobs. A limit is locked against concurrent submissions for the user."""
    limit = decision.max_waiting.value
    if limit == NO_LIMIT:
        return Room(Load(), None)
    limits.lock(tx, queue, user)
    return Room(limits.load_of(tx, queue, user), limit)


def too_many_waiting(user: str, queue: str, room: Room, number: int) -> ExhaustedError:
    """The error for a submission that exceeds the limit of waiting jobs."""
    return ExhaustedError(
        "WAITING_LIMIT_REACHED",
        f"{user} has {room.load.waiting:,} jobs waiting on queue {queue!r}, and {number:,} more would exceed "
        f"the limit of {room.limit:,}; submit again after some have run, submit fewer at a time, or ask the "
        "administrators of its site for a higher limit",
        metadata={
            "queue": queue,
            "user": user,
            "waiting": str(room.load.waiting),
            "new": str(number),
            "limit": str(room.limit),
        },
    )


def require_room(
    tx: Transaction, queue: Queue, who: Identity, job_count: int, now: datetime
) -> Decision:
    """The decision of a queue's list about a user who submits `job_count` more jobs there.

    Raises `ForbiddenError` (QUEUE_ACCESS_DENIED) and `ExhaustedError` (WAITING_LIMIT_REACHED).
    """
    decision = decisions(tx, [queue], who, now)[queue.name]
    if not decision.is_allowed:
        raise access_denied(who, queue)
    room = waiting_room(tx, queue.name, who.user, decision)
    if not room.takes(job_count):
        raise too_many_waiting(who.user, queue.name, room, job_count)
    return decision


def running_limit(
    tx: Transaction, config: Configuration, name: str, user: str, now: datetime
) -> int:
    """The limit of running jobs of a user on a queue; 0 means no limit."""
    queue = config.queue(name, now)
    if queue is None:
        return NO_LIMIT
    who = lists.get_identities(tx, [user]).get(user, Identity(user))
    return decisions(tx, [queue], who, now)[name].max_running.value


def release(tx: Transaction, queue: str, user: str, limit: int, now: datetime) -> int:
    """Makes throttled jobs of a user runnable, as many as the limit allows; returns how many."""
    limits.lock(tx, queue, user)
    room = None if limit == NO_LIMIT else limit - limits.load_of(tx, queue, user).active
    if room is not None and room <= 0:
        return 0
    return job_moves.release(tx, queue, user, room, now)


def release_throttled(context: Context, owner: str, interval: timedelta) -> None:
    """Makes jobs runnable that were throttled, or paused after a failure, and may run now.

    Each server process repeats it every `interval`; one of them does the work.
    """
    now = context.clock()
    with context.db.read() as tx:
        # Reads indexes that are empty unless jobs are throttled or paused.
        if not limits.throttled(tx) and not jobs.pauses_over(tx, now, 1):
            return
    with context.db.write() as tx:
        granted, _ = claims.claim(tx, "throttle", owner, now, interval * CLAIM_INTERVALS)
        if not granted:
            return
        config = context.config.current(tx)
        paused = jobs.pauses_over(tx, now, RETRIES_AT_ONCE)
        limit_of: Mapping[tuple[str, str], int] = {
            (queue, user): running_limit(tx, config, queue, user, now)
            # In a fixed order, because each takes a lock.
            for queue, user in sorted(limits.throttled(tx) | paused.keys())
        }
        for (queue, user), job_ids in sorted(paused.items()):
            is_limited = limit_of[queue, user] != NO_LIMIT
            job_moves.end_pauses(tx, queue, job_ids, now, throttled=is_limited)
        for (queue, user), limit in limit_of.items():
            release(tx, queue, user, limit, now)


def throttle_excess(context: Context, owner: str, interval: timedelta) -> int:
    """Throttles runnable jobs above a limit that was set or lowered after they became runnable.

    Each server process repeats it every `interval`; one of them does the work. Returns the number of
    jobs that it throttled. Running jobs continue.
    """
    now = context.clock()
    with context.db.read() as tx:
        config = context.config.current(tx)
        limited = {q.name for q in config.queues(now) if q.max_running_per_user}
        limited |= lists.queues_with_limits(tx, now)
        if not limited:
            return 0
        over = {
            key: limit
            for key, load in limits.loads_on(tx, limited).items()
            if NO_LIMIT < (limit := running_limit(tx, config, *key, now)) < load.active
        }
    if not over:
        return 0
    count = 0
    with context.db.write() as tx:
        granted, _ = claims.claim(tx, "hold-back", owner, now, interval * CLAIM_INTERVALS)
        if not granted:
            return 0
        for (queue, user), limit in sorted(over.items()):
            limits.lock(tx, queue, user)
            excess = limits.load_of(tx, queue, user).active - limit
            if excess > 0:
                count += job_moves.throttle(tx, queue, user, excess, now)
    return count
