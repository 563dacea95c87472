"""Users cancel tasks and jobs. A job that no pilot has ends at once; others end at their pilot's next contact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.tasks.jobs import FINAL_STATES, Job, JobKind, JobState, job_not_found
from pandawn_server.domain.tasks.tasks import TaskView, task_not_found
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.monitor import events
from pandawn_server.storage.tasks import job_moves, jobs, tasks
from pandawn_server.storage.tasks.labels import labelled
from pandawn_server.usecases.access.reach import require_job, require_task
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.leases.ending import settle_dependants
from pandawn_server.usecases.tasks.submit import view_of

_OPEN_STATES = frozenset(JobState) - FINAL_STATES


@dataclass(frozen=True, slots=True)
class CancelledTask:
    """Result of a cancellation: jobs cancelled at once, and jobs that end at their pilots' next contact."""

    view: TaskView
    cancelled: int
    pending: int


def cancel_task(context: Context, task_id: int, by: Principal) -> CancelledTask:
    """Cancels all jobs of a task that have not ended.

    Raises `NotFoundError` (TASK_NOT_FOUND) and `ForbiddenError` (NOT_YOUR_TASK).
    """
    with context.db.write() as tx:
        now = context.clock()
        task = tasks.lock_tasks(tx, [task_id]).get(task_id)
        if task is None:
            raise task_not_found(task_id)
        require_task(tx, by, task)
        config = context.config.current(tx)
        open_jobs = jobs.list_task_jobs(tx, task_id, _OPEN_STATES)
        cancelled, pending = _cancel(tx, config, open_jobs, now)
        return CancelledTask(view_of(tx, task_id), cancelled, pending)


def cancel_job(context: Context, job_id: int, by: Principal) -> Job:
    """Cancels one job and returns its new state.

    Raises `NotFoundError` (JOB_NOT_FOUND) and `ForbiddenError` (NOT_YOUR_JOB).
    """
    with context.db.write() as tx:
        now = context.clock()
        job = jobs.get_jobs(tx, [job_id]).get(job_id)
        if job is None:
            raise job_not_found(job_id)
        require_job(tx, by, job)
        if job.kind is JobKind.BUILD:
            tasks.lock_tasks(tx, [job.task_id])
        # Without the lock, a job released between the two statements of `_cancel` would escape both.
        locked = list(jobs.lock_jobs(tx, [job_id]).values())
        _cancel(tx, context.config.current(tx), locked, now)
        return labelled(tx, [jobs.get_jobs(tx, [job_id])[job_id]])[0]


def _cancel(
    tx: Transaction, config: Configuration, wanted: Sequence[Job], now: datetime
) -> tuple[int, int]:
    ids = [job.job_id for job in wanted if not job.cancel_requested]
    ended = job_moves.cancel_queued(tx, ids, now)
    # A job that a pilot acquires between the two statements is caught by the second.
    asked = job_moves.request_cancel(tx, set(ids) - ended)
    new_events = []
    for job in wanted:
        if job.job_id in ended:
            kind, text = EventKind.JOB_CANCELLED, "cancelled before a pilot had it"
        elif job.job_id in asked:
            kind, text = EventKind.JOB_CANCEL_REQUESTED, "its pilot will end it at its next contact"
        else:
            continue
        new_events.append(
            Event(
                now,
                kind,
                text,
                task_id=job.task_id,
                job_id=job.job_id,
                attempt=job.attempt,
                queue=job.queue,
                node=job.node,
                user=job.user,
            )
        )
        if job.kind is JobKind.BUILD and job.job_id in ended:
            new_events += settle_dependants(tx, config, job, JobState.CANCELLED, None, now)
    events.insert_events(tx, new_events)
    return len(ended), len(asked) + sum(job.cancel_requested for job in wanted)
