"""What is within a caller's reach: refuses calls for the work of others, and lists its own.

The owner of a task is no secret: task numbers are sequential, so that everybody knows which exist. So a call for
another user's task is refused as such, instead of with NOT_FOUND: a user who mistyped a number, or submitted the
task under another name, sees what is wrong.

Lists are read in parts: each part with its own index, one page each, and the pages are merged. A single query for
*mine or my sites'* would sort everything that all these users ever submitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.access.reach import Reach, may_change, may_see, sites_to_change
from pandawn_server.domain.errors import ForbiddenError
from pandawn_server.domain.tasks.jobs import Job
from pandawn_server.domain.tasks.tasks import Task
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues import queues

T = TypeVar("T")

MAX_SHOWN = 10
"""The number of sites that a message lists."""


def require_sight_of_task(tx: Transaction, by: Principal, task: Task) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_TASK) unless the caller may see a task."""
    _require_task(tx, may_see(by), task)


def require_task(tx: Transaction, by: Principal, task: Task) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_TASK) unless the caller may change a task."""
    _require_task(tx, may_change(by), task)


def require_sight_of_job(tx: Transaction, by: Principal, job: Job) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_JOB) unless the caller may see a job."""
    _require_job(tx, may_see(by), job)


def require_job(tx: Transaction, by: Principal, job: Job) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_JOB) unless the caller may change a job."""
    _require_job(tx, may_change(by), job)


def require_sites(by: Principal, sites: Iterable[str], what: str) -> None:
    """Raises `ForbiddenError` (SITE_ADMIN_REQUIRED) unless the caller administers all `sites`.

    `what` is the start of the message, such as *to change queue Q*.
    """
    require_among(sites_to_change(by), sites, what)


def require_among(mine: frozenset[str] | None, sites: Iterable[str], what: str) -> None:
    """Like `require_sites`, for a caller that administers the sites `mine`; None means all."""
    missing = sorted(set(sites) - mine) if mine is not None else []
    if missing:
        others = len(missing) - MAX_SHOWN
        named = ", ".join(missing[:MAX_SHOWN]) + (f" and {others} more" if others > 0 else "")
        raise ForbiddenError(
            "SITE_ADMIN_REQUIRED",
            f"{what} you must be an administrator of site {named}; "
            "ask one of its administrators, or an operator of this server",
            metadata={"site": missing[0], "sites": named},
        )


def other_user(user: str) -> ForbiddenError:
    """The error for listing another user's work."""
    return ForbiddenError(
        "NOT_YOUR_TASK",
        f"only {user}, the administrators of the sites and operators may see what {user} submitted; "
        "omit the user to see your own",
        metadata={"user": user},
    )


def _require_task(tx: Transaction, reach: Reach, task: Task) -> None:
    if not _covers(tx, reach, task.spec.user, task.queue):
        raise _denied(tx, "NOT_YOUR_TASK", "task", task.task_id, task.queue)


def _require_job(tx: Transaction, reach: Reach, job: Job) -> None:
    if not _covers(tx, reach, job.user, job.queue):
        raise _denied(tx, "NOT_YOUR_JOB", "job", job.job_id, job.queue)


def _covers(tx: Transaction, reach: Reach, user: str, queue: str) -> bool:
    # Reads the site only if it matters: most callers are operators or owners.
    if reach.covers(user, ""):
        return True
    return bool(reach.sites) and reach.covers(user, _site(tx, queue))


def _site(tx: Transaction, queue: str) -> str:
    # The site that the queue belongs to now: its administrators decide.
    return queues.site_of(tx, queue)


def _denied(tx: Transaction, reason: str, kind: str, number: int, queue: str) -> ForbiddenError:
    site = _site(tx, queue)
    return ForbiddenError(
        reason,
        f"{kind} {number} belongs to another user; only its owner, the administrators of site {site} "
        f"and operators may do this; `pandawn {kind}s` lists your own",
        metadata={f"{kind}_id": str(number), "queue": queue, "site": site},
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A filter on user and queue; an empty field matches all."""

    user: str
    queue: str


def parts_within(tx: Transaction, reach: Reach, user: str, queue: str) -> list[Part]:
    """The parts of a request's filter that are within a caller's reach; they may overlap.

    Raises `ForbiddenError` (NOT_YOUR_TASK) if the filter selects only work outside of the reach.
    """
    if reach.everything:
        return [Part(user, queue)]
    names = queues.names_of_sites(tx, reach.sites)
    if queue in names:
        return [Part(user, queue)]
    parts = []
    if reach.user and user in {"", reach.user}:
        parts.append(Part(reach.user, queue))
    if not queue:
        parts += [Part(user, name) for name in names]
    elif not parts:
        raise other_user(user)
    if user not in {"", reach.user} and not names:
        raise other_user(user)
    return parts


def merged(
    found: Iterable[Iterable[T]], key: Callable[[T], int], limit: int, *, descending: bool
) -> list[T]:
    """Merges lists by the number that identifies each item; returns the first `limit` items."""
    by_key = {key(item): item for part in found for item in part}
    return [by_key[number] for number in sorted(by_key, reverse=descending)[:limit]]
