"""Chooses the queue of a task: the one that its user names, or the best of those that the user may use."""

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

MAX_SKIPPED = 20
"""The largest number of skipped queues to list; a grid has hundreds."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The queue of a task, its list's decision about the user, and why other queues were skipped."""

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
    """Chooses the queue for a task of `job_count` jobs. Raises the errors of `Broker.SubmitTask`."""
    if not spec.queue:
        return _best_queue(tx, config.queues(now), spec, job_count, who, now)
    queue = config.queue(spec.queue, now)
    if queue is None:
        raise queue_not_found(spec.queue)
    if spec.site and queue.site != spec.site:
        raise PreconditionError(
            "NO_QUEUE_AVAILABLE",
            f"queue {queue.name!r} belongs to site {queue.site!r}, not to {spec.site!r}; give only one of the two",
        )
    if queue.status is QueueStatus.OFFLINE:
        raise PreconditionError(
            "QUEUE_OFFLINE",
            f"queue {queue.name!r} is offline and accepts no tasks{because(queue)}; name another queue, "
            "or none to let the server choose one",
            metadata={"queue": queue.name},
        )
    if queue.status is QueueStatus.TEST and not spec.test:
        raise PreconditionError(
            "QUEUE_TEST",
            f"queue {queue.name!r} is in test and accepts only test tasks{because(queue)}; name "
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
            f"no online queue has a storage_root and meets the jobs' requirements ({states}); to use a queue "
            "in brokeroff, name it",
        )
    found = decisions(tx, online, who, now)
    allowed = [queue for queue in online if found[queue.name].is_allowed]
    skipped = [f"{q.name}: not for {who.user}" for q in online if not found[q.name].is_allowed]
    # Prefers the least work per live pilot, as PanDA's brokerage weighs sites; a queue without pilots
    # counts as having half a pilot.
    load = jobs.queue_loads(tx, [queue.name for queue in allowed])
    full: ExhaustedError | None = None
    for queue in sorted(allowed, key=lambda queue: (load[queue.name], queue.name)):
        decision = found[queue.name]
        room = waiting_room(tx, queue.name, who.user, decision)
        if room.takes(job_count):
            return Choice(queue, decision, _listed(skipped))
        full = full or too_many_waiting(who.user, queue.name, room, job_count)
        skipped.append(
            f"{queue.name}: {who.user} has {room.load.waiting:,} waiting jobs, the limit is {room.limit:,}"
        )
    if full is not None:
        raise full
    if len(online) == 1:
        raise access_denied(who, online[0])
    sites = sorted({queue.site for queue in online})
    raise ForbiddenError(
        "QUEUE_ACCESS_DENIED",
        f"{who.user} may not use any of the {len(online)} online queues; ask an administrator of one of "
        f"their sites ({', '.join(sites[:10])}) for access",
        metadata={"user": who.user, "site": sites[0]},
    )


def _listed(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - MAX_SKIPPED} more" * (len(reasons) > MAX_SKIPPED)
    return "; ".join(reasons[:MAX_SKIPPED]) + more


def _queues_of_site(known: Sequence[Queue], site: str) -> Sequence[Queue]:
    of_site = [queue for queue in known if not site or queue.site == site]
    if of_site:
        return of_site
    if site:
        raise NotFoundError(
            "SITE_NOT_FOUND",
            f"no queue belongs to site {site!r}; `pandawn queues list` lists all queues",
            metadata={"site": site},
        )
    raise PreconditionError(
        "NO_QUEUE_AVAILABLE",
        "no queue is configured; a site administrator can create one with `pandawn queues apply`",
    )
