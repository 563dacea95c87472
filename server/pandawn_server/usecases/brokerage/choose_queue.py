"""Which queue a task gets: the one that its user names, or the best of those that the user may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.access.lists import Decision, Identity
from pandawn_server.domain.errors import (
    ExhaustedError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
)
from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.queues.queues import Queue, QueueStatus, because, fits, queue_not_found
from pandawn_server.domain.tasks.tasks import TaskSpec
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks import jobs
from pandawn_server.usecases.access.limits import (
    access_denied,
    decisions,
    require_room,
    too_many_waiting,
    waiting_room,
)

MAX_PASSED_OVER = 20
"""Queues named among those that were passed over; a grid has hundreds."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The queue of a task, what its list says of the user, and why others were passed over."""

    queue: Queue
    decision: Decision
    passed_over: str = ""


def choose_queue(
    tx: Transaction,
    config: Configuration,
    spec: TaskSpec,
    job_count: int,
    who: Identity,
    now: datetime,
) -> Choice:
    """The queue of a task of `job_count` jobs. Raises what `Broker.SubmitTask` names."""
    if not spec.queue:
        return _best_queue(tx, config.queues(now), spec, job_count, who, now)
    queue = config.queue(spec.queue, now)
    if queue is None:
        raise queue_not_found(spec.queue)
    if spec.site and queue.site != spec.site:
        raise PreconditionError(
            "NO_QUEUE_AVAILABLE",
            f"queue {queue.name!r} belongs to site {queue.site!r}, not to {spec.site!r}; name one of them",
        )
    if queue.status is QueueStatus.OFFLINE:
        raise PreconditionError(
            "QUEUE_OFFLINE",
            f"queue {queue.name!r} is offline and takes no tasks{because(queue)}; name another queue, "
            "or none to have one chosen",
            metadata={"queue": queue.name},
        )
    if queue.status is QueueStatus.TEST and not spec.test:
        raise PreconditionError(
            "QUEUE_TEST",
            f"queue {queue.name!r} is being tried out and takes test tasks only{because(queue)}; name "
            "another queue, or submit the task as a test",
            metadata={"queue": queue.name},
        )
    return Choice(queue, require_room(tx, queue, who, job_count, now))


def _best_queue(
    tx: Transaction,
    known: Sequence[Queue],
    spec: TaskSpec,
    job_count: int,
    who: Identity,
    now: datetime,
) -> Choice:
    of_site = _queues_of_site(known, spec.site)
    statuses = {QueueStatus.ONLINE, QueueStatus.TEST} if spec.test else {QueueStatus.ONLINE}
    online = [
        queue
        for queue in of_site
        if queue.status in statuses and queue.storage_root and fits(queue, spec.requirements)
    ]
    if not online:
        states = ", ".join(f"{queue.name}: {queue.status.value}" for queue in of_site[:10])
        raise PreconditionError(
            "NO_QUEUE_AVAILABLE",
            f"no queue with a storage_root is online and has room for such jobs ({states}); name a queue to use "
            "one that is brokeroff",
        )
    found = decisions(tx, online, who, now)
    allowed = [queue for queue in online if found[queue.name].is_allowed]
    passed_over = [f"{q.name}: not for {who.user}" for q in online if not found[q.name].is_allowed]
    # The least work for each pilot that is there to do it, as PanDA's brokerage weighs sites; a
    # queue without pilots counts as having one that is late.
    load = jobs.queue_loads(tx, [queue.name for queue in allowed])
    full: ExhaustedError | None = None
    for queue in sorted(allowed, key=lambda queue: (load[queue.name], queue.name)):
        decision = found[queue.name]
        room = waiting_room(tx, queue.name, who.user, decision)
        if room.takes(job_count):
            return Choice(queue, decision, _listed(passed_over))
        full = full or too_many_waiting(who.user, queue.name, room, job_count)
        passed_over.append(
            f"{queue.name}: {room.load.waiting:,} of at most {room.limit:,} jobs of {who.user} wait there"
        )
    if full is not None:
        raise full
    if len(online) == 1:
        raise access_denied(who, online[0])
    sites = sorted({queue.site for queue in online})
    raise ForbiddenError(
        "QUEUE_ACCESS_DENIED",
        f"{who.user} may use none of the {len(online)} queues that are online; who may is decided by the "
        f"administrators of their sites ({', '.join(sites[:10])}): ask one of them",
        metadata={"user": who.user, "site": sites[0]},
    )


def _listed(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - MAX_PASSED_OVER} more" * (len(reasons) > MAX_PASSED_OVER)
    return "; ".join(reasons[:MAX_PASSED_OVER]) + more


def _queues_of_site(known: Sequence[Queue], site: str) -> Sequence[Queue]:
    of_site = [queue for queue in known if not site or queue.site == site]
    if of_site:
        return of_site
    if site:
        raise NotFoundError(
            "SITE_NOT_FOUND",
            f"no queue belongs to a site {site!r}; `pandawn queues list` shows those that exist",
            metadata={"site": site},
        )
    raise PreconditionError(
        "NO_QUEUE_AVAILABLE",
        "no queue is configured; a site administrator can with `pandawn queues apply`",
    )
