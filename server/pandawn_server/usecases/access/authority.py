"""Refuses what is not the caller's to do, with whom to ask instead.

Whose a task is, is no secret worth keeping: numbers of tasks count up, so that everybody knows which exist.
Therefore somebody else's is refused as such and not denied to exist: a user who mistyped a number, or
forgot under which name a task was submitted, is told what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable

from pandawn_server.domain.access.ownership import Reach, may_see, may_touch, sites_to_change
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.errors import ForbiddenError
from pandawn_server.domain.tasks.jobs import Job
from pandawn_server.domain.tasks.tasks import Task
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues import queues

MAX_SHOWN = 10
"""Sites that a message lists."""


def require_sight_of_task(tx: Transaction, by: Principal, task: Task) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_TASK) unless the caller may see a task."""
    _require_task(tx, may_see(by), task)


def require_task(tx: Transaction, by: Principal, task: Task) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_TASK) unless the caller may change a task."""
    _require_task(tx, may_touch(by), task)


def require_sight_of_job(tx: Transaction, by: Principal, job: Job) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_JOB) unless the caller may see a job."""
    _require_job(tx, may_see(by), job)


def require_job(tx: Transaction, by: Principal, job: Job) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_JOB) unless the caller may change a job."""
    _require_job(tx, may_touch(by), job)


def require_sites(by: Principal, sites: Iterable[str], what: str) -> None:
    """Raises `ForbiddenError` (SITE_ADMIN_REQUIRED) unless the caller administers all of some sites.

    `what` says what it takes that for, as in *to change queue Q*.
    """
    require_among(sites_to_change(by), sites, what)


def require_among(mine: frozenset[str] | None, sites: Iterable[str], what: str) -> None:
    """The same for somebody of whom the administered sites are known; None: all."""
    missing = sorted(set(sites) - mine) if mine is not None else []
    if missing:
        others = len(missing) - MAX_SHOWN
        named = ", ".join(missing[:MAX_SHOWN]) + (f" and {others} more" if others > 0 else "")
        raise ForbiddenError(
            "SITE_ADMIN_REQUIRED",
            f"{what} takes an administrator of site {named}, which you are not; "
            "ask one of them, or an operator of this server",
            metadata={"site": missing[0], "sites": named},
        )


def other_user(user: str) -> ForbiddenError:
    """The error for asking for lists of somebody else's work."""
    return ForbiddenError(
        "NOT_YOUR_TASK",
        f"what {user} submitted is for {user}, the administrators of its sites and operators to see; "
        "leave the user out to see your own",
        metadata={"user": user},
    )


def _require_task(tx: Transaction, reach: Reach, task: Task) -> None:
    if not _covers(tx, reach, task.spec.user, task.queue):
        raise _denied(tx, "NOT_YOUR_TASK", "task", task.task_id, task.queue)


def _require_job(tx: Transaction, reach: Reach, job: Job) -> None:
    if not _covers(tx, reach, job.user, job.queue):
        raise _denied(tx, "NOT_YOUR_JOB", "job", job.job_id, job.queue)


def _covers(tx: Transaction, reach: Reach, user: str, queue: str) -> bool:
    # The site only where it can matter: most calls are operators' or owners'.
    if reach.covers(user, ""):
        return True
    return bool(reach.sites) and reach.covers(user, _site(tx, queue))


def _site(tx: Transaction, queue: str) -> str:
    # Where the queue belongs now: administrators change with it.
    return queues.site_of(tx, queue)


def _denied(tx: Transaction, reason: str, kind: str, number: int, queue: str) -> ForbiddenError:
    site = _site(tx, queue)
    return ForbiddenError(
        reason,
        f"{kind} {number} is another user's; its owner, the administrators of site {site} "
        f"and operators may do this; `pandawn {kind}s` lists your own",
        metadata={f"{kind}_id": str(number), "queue": queue, "site": site},
    )
