"""Users retry failed and cancelled jobs: each gets a new job, since a job never leaves a final state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pandawn_server.domain.access.lists import NO_LIMIT
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.errors import PreconditionError
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.queues.queues import Queue, queue_not_found
from pandawn_server.domain.tasks.jobs import Job, JobKind, JobState, job_not_found
from pandawn_server.domain.tasks.tasks import (
    NewJob,
    Task,
    TaskView,
    task_not_found,
    with_unique_names,
)
from pandawn_server.storage import requests
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.monitor import events
from pandawn_server.storage.requests import Answer, RequestKey
from pandawn_server.storage.retention import is_being_removed
from pandawn_server.storage.tasks import files, job_moves, jobs, tasks
from pandawn_server.storage.tasks.labels import labelled
from pandawn_server.usecases.access.limits import (
    identity_for,
    release,
    require_room,
)
from pandawn_server.usecases.access.reach import require_job, require_task
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.tasks.submit import view_of

RETRIABLE = frozenset({JobState.FAILED, JobState.CANCELLED})
"""States of jobs that a user may retry."""


def retry_task(
    context: Context, request_id: str, task_id: int, by: Principal
) -> tuple[TaskView, tuple[int, ...]]:
    """Submits a new job for each failed or cancelled job of a task.

    The same `request_id` returns the same jobs.

    Raises `NotFoundError` (TASK_NOT_FOUND), `ForbiddenError` (NOT_YOUR_TASK, QUEUE_ACCESS_DENIED),
    `ExhaustedError` (WAITING_LIMIT_REACHED) and `PreconditionError` (NOTHING_TO_RETRY).
    """
    now = context.clock()
    key = RequestKey(by.name, request_id, f"retry task {task_id}")
    with context.db.write() as tx:
        task = tasks.lock_tasks(tx, [task_id]).get(task_id)
        if task is None or is_being_removed(tx, [task_id]):
            raise task_not_found(task_id)
        require_task(tx, by, task)
        answer = requests.get_answer(tx, key)
        if answer is not None:
            return view_of(tx, task_id), answer.numbers
        failed = jobs.list_task_jobs(tx, task_id, RETRIABLE)
        if not failed:
            raise PreconditionError(
                "NOTHING_TO_RETRY",
                f"no job of task {task_id} has failed or was cancelled and not retried yet",
                metadata={"task_id": str(task_id)},
            )
        job_ids = _retry(tx, context.config.refresh(tx), task, failed, by, now)
        requests.insert_answer(tx, key, Answer(task_id, tuple(job_ids)), now)
        return view_of(tx, task_id), tuple(job_ids)


def retry_job(context: Context, request_id: str, job_id: int, by: Principal) -> Job:
    """Submits a new job in place of one that failed or was cancelled.

    The same `request_id` returns the same job.

    Raises `NotFoundError` (JOB_NOT_FOUND), `ForbiddenError` (NOT_YOUR_JOB, QUEUE_ACCESS_DENIED),
    `ExhaustedError` (WAITING_LIMIT_REACHED) and `PreconditionError` (NOTHING_TO_RETRY, UPSTREAM_FAILED).
    """
    now = context.clock()
    key = RequestKey(by.name, request_id, f"retry job {job_id}")
    with context.db.write() as tx:
        job = jobs.get_jobs(tx, [job_id]).get(job_id)
        if job is None:
            raise job_not_found(job_id)
        require_job(tx, by, job)
        task = tasks.lock_tasks(tx, [job.task_id]).get(job.task_id)
        if task is None or is_being_removed(tx, [job.task_id]):
            raise job_not_found(job_id)
        answer = requests.get_answer(tx, key)
        if answer is not None:
            return labelled(tx, list(jobs.get_jobs(tx, answer.numbers).values()))[0]
        # Read again under the task's lock: another call may have retried the job meanwhile.
        job = jobs.get_jobs(tx, [job_id])[job_id]
        if job.state not in RETRIABLE or job.retry_job_id is not None:
            raise PreconditionError(
                "NOTHING_TO_RETRY", _why_not(job), metadata={"job_id": str(job_id)}
            )
        if (
            job.kind is JobKind.RUN
            and _lacks_library(task)
            and not jobs.has_open_build(tx, task.task_id)
        ):
            raise PreconditionError(
                "UPSTREAM_FAILED",
                f"job {job_id} needs the library of its task, and the build job failed; "
                f"`pandawn retry --task {task.task_id}` retries both",
                metadata={"job_id": str(job_id), "task_id": str(task.task_id)},
            )
        job_ids = _retry(tx, context.config.refresh(tx), task, [job], by, now)
        requests.insert_answer(tx, key, Answer(task.task_id, tuple(job_ids)), now)
        return labelled(tx, list(jobs.get_jobs(tx, job_ids).values()))[0]


def _why_not(job: Job) -> str:
    if job.retry_job_id is not None:
        return f"job {job.job_id} was retried already, as job {job.retry_job_id}"
    return f"job {job.job_id} is {job.state.value}; only failed and cancelled jobs are retried"


def _lacks_library(task: Task) -> bool:
    return task.spec.build and task.library is None


def _queue_and_limit(
    tx: Transaction,
    config: Configuration,
    task: Task,
    job_count: int,
    by: Principal,
    now: datetime,
) -> tuple[Queue, int]:
    """Returns the queue and its limit of running jobs: both may have changed since the task was submitted."""
    queue = config.queue(task.queue, now)
    if queue is None:
        raise queue_not_found(task.queue)
    who = identity_for(tx, by, task.spec.user, now)
    return queue, require_room(tx, queue, who, job_count, now).max_running.value


def _retry(
    tx: Transaction,
    config: Configuration,
    task: Task,
    failed: Sequence[Job],
    by: Principal,
    now: datetime,
) -> list[int]:
    queue, limit = _queue_and_limit(tx, config, task, len(failed), by, now)
    own_inputs = files.get_inputs(tx, [job.job_id for job in failed])
    waits = _lacks_library(task)
    new: Sequence[NewJob] = [
        NewJob(
            index=job.index,
            kind=job.kind,
            state=JobState.WAITING if waits and job.kind is JobKind.RUN else JobState.ACTIVATED,
            inputs=tuple(own_inputs[job.job_id]),
        )
        for job in failed
    ]
    new = with_unique_names(new, queue.immutable_scopes)
    library_bytes = task.library.size_bytes if task.library is not None else 0
    job_ids = jobs.insert_jobs(
        tx,
        task.task_id,
        task.spec,
        task.queue,
        new,
        now,
        [job.job_id for job in failed],
        library_bytes,
        throttled=limit != NO_LIMIT,
    )
    if limit != NO_LIMIT:
        release(tx, task.queue, task.spec.user, limit, now)
    files.insert_inputs(tx, zip(job_ids, (job.inputs for job in new), strict=True))
    job_moves.set_retries(
        tx, {job.job_id: job_id for job, job_id in zip(failed, job_ids, strict=True)}
    )
    tasks.reopen(tx, task.task_id)
    text = f"{len(job_ids)} jobs of task {task.task_id} are retried as new jobs"
    events.insert_events(
        tx,
        [
            Event(
                now,
                EventKind.TASK_RETRIED,
                text,
                task_id=task.task_id,
                queue=task.queue,
                user=task.spec.user,
            )
        ],
    )
    return job_ids
