"""Reads tasks and jobs for the callers who may see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.access.reach import Reach, may_see
from pandawn_server.domain.leases.attempts import Attempt
from pandawn_server.domain.tasks.jobs import Job, JobFilter, job_not_found
from pandawn_server.domain.tasks.tasks import (
    File,
    FileRole,
    Task,
    TaskView,
    planned_outputs,
    task_not_found,
)
from pandawn_server.storage.leases import attempts
from pandawn_server.storage.tasks import files, jobs, tasks
from pandawn_server.storage.tasks.job_files import input_files
from pandawn_server.storage.tasks.labels import labelled
from pandawn_server.usecases.access.reach import (
    merged,
    parts_within,
    require_sight_of_job,
    require_sight_of_task,
)
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.tasks.submit import view_of


def get_task(context: Context, task_id: int, by: Principal) -> TaskView:
    """Returns one task. Raises `NotFoundError` (TASK_NOT_FOUND) and `ForbiddenError` (NOT_YOUR_TASK)."""
    with context.db.read() as tx:
        task = tasks.get_tasks(tx, [task_id]).get(task_id)
        if task is None:
            raise task_not_found(task_id)
        require_sight_of_task(tx, by, task)
        return view_of(tx, task_id)


def list_tasks(
    context: Context,
    before: int | None,
    limit: int,
    user: str,
    labels: Mapping[str, str],
    by: Principal,
) -> list[TaskView]:
    """Returns up to `limit` tasks that the caller may see, with identifiers below `before`, newest first.

    An empty `user` or `labels` matches any. Raises `ForbiddenError` (NOT_YOUR_TASK) for a `user` whose tasks the caller
    may not see.
    """
    with context.db.read() as tx:
        found = merged(
            (
                tasks.list_tasks(tx, before, limit, part.user, part.queue, labels)
                for part in parts_within(tx, may_see(by), user, "")
            ),
            lambda task: task.task_id,
            limit,
            descending=True,
        )
        progress = tasks.get_progress(tx, [task.task_id for task in found])
        return [TaskView(task, progress[task.task_id]) for task in found]


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its files, attempts and command."""

    job: Job
    task: Task
    files: tuple[tuple[FileRole, File], ...]
    attempts: Sequence[Attempt]


def get_job(context: Context, job_id: int, by: Principal) -> JobView:
    """Returns one job with its task, files and attempts.

    Raises `NotFoundError` (JOB_NOT_FOUND) and `ForbiddenError` (NOT_YOUR_JOB).
    """
    with context.db.read() as tx:
        job = jobs.get_jobs(tx, [job_id]).get(job_id)
        if job is None:
            raise job_not_found(job_id)
        require_sight_of_job(tx, by, job)
        task = tasks.get_tasks(tx, [job.task_id])[job.task_id]
        read = input_files(tx, [job], {task.task_id: task})[job_id]
        stored = dict(files.get_stored(tx, job_id))
        # Outputs that do not exist yet are shown without size and checksum.
        for plan in planned_outputs(task, job.kind, job.index, job_id, max(job.attempt, 1)):
            planned = File(plan.lfn, 0, plan.url, plan.scope)
            stored.setdefault((plan.role, plan.lfn), planned)
        return JobView(
            job=replace(job, labels=task.spec.labels),
            task=task,
            files=tuple(
                [
                    (FileRole.LIBRARY if file == task.library else FileRole.INPUT, file)
                    for file in read
                ]
                + [(role, file) for (role, _), file in stored.items()]
            ),
            attempts=attempts.list_attempts(tx, job_id),
        )


def list_jobs(
    context: Context, after: int, limit: int, wanted: JobFilter, by: Principal
) -> list[Job]:
    """Returns up to `limit` jobs that the caller may see, after job `after` in the order of `wanted`.

    With an `after` of 0 they start at the first. Raises `ForbiddenError` (NOT_YOUR_TASK) for a user or task whose jobs
    the caller may not see.
    """
    with context.db.read() as tx:
        reach = may_see(by)
        if wanted.task_id and not reach.everything:
            task = tasks.get_tasks(tx, [wanted.task_id]).get(wanted.task_id)
            if task is None:
                return []
            require_sight_of_task(tx, by, task)
            reach = Reach(everything=True)
        found = merged(
            (
                jobs.list_jobs(tx, after, limit, replace(wanted, user=part.user, queue=part.queue))
                for part in parts_within(tx, reach, wanted.user, wanted.queue)
            ),
            lambda job: job.job_id,
            limit,
            descending=wanted.newest_first,
        )
        return labelled(tx, found)
