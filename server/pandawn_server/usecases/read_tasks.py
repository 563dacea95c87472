"""Tasks and jobs for those who look after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pandawn_server.domain.attempts import Attempt
from pandawn_server.domain.jobs import Job, JobFilter
from pandawn_server.domain.tasks import File, FileRole, Task, planned_outputs
from pandawn_server.storage import attempts, files, jobs, tasks
from pandawn_server.usecases.cancel import job_not_found, task_not_found
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.job_files import input_files
from pandawn_server.usecases.submit_task import TaskView, view_of


def get_task(context: Context, task_id: int) -> TaskView:
    """One task. Raises `NotFoundError` (TASK_NOT_FOUND)."""
    with context.db.read() as tx:
        if not tasks.get_tasks(tx, [task_id]):
            raise task_not_found(task_id)
        return view_of(tx, task_id)


def list_tasks(context: Context, before: int | None, limit: int, user: str) -> list[TaskView]:
    """Up to `limit` tasks with identifiers below `before`, newest first; an empty user is any."""
    with context.db.read() as tx:
        found = tasks.list_tasks(tx, before, limit, user)
        progress = tasks.get_progress(tx, [task.task_id for task in found])
        return [TaskView(task, progress[task.task_id]) for task in found]


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its files, attempts and command."""

    job: Job
    task: Task
    files: tuple[tuple[FileRole, File], ...]
    attempts: Sequence[Attempt]


def get_job(context: Context, job_id: int) -> JobView:
    """One job with all that is known of it. Raises `NotFoundError` (JOB_NOT_FOUND)."""
    with context.db.read() as tx:
        job = jobs.get_jobs(tx, [job_id]).get(job_id)
        if job is None:
            raise job_not_found(job_id)
        task = tasks.get_tasks(tx, [job.task_id])[job.task_id]
        read = input_files(tx, [job], {task.task_id: task})[job_id]
        stored = dict(files.get_stored(tx, job_id))
        # Planned outputs are shown before they exist, without size and checksum.
        for plan in planned_outputs(task, job.kind, job.index, job_id, max(job.attempt, 1)):
            stored.setdefault((plan.role, plan.lfn), File(plan.lfn, 0, plan.url))
        return JobView(
            job=job,
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


def list_jobs(context: Context, after: int, limit: int, wanted: JobFilter) -> list[Job]:
    """Up to `limit` jobs that come after `after` in the order that `wanted` names; 0 is none."""
    with context.db.read() as tx:
        return jobs.list_jobs(tx, after, limit, wanted)
