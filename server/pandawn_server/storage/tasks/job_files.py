"""The files that a job reads: its own inputs, and its task's library once that is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pandawn_server.domain.tasks.jobs import Job, JobKind
from pandawn_server.domain.tasks.tasks import File, Task
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks import files, tasks


def tasks_of(tx: Transaction, found: Iterable[Job]) -> dict[int, Task]:
    """Returns the tasks of jobs, by identifier."""
    return tasks.get_tasks(tx, {job.task_id for job in found})


def input_files(
    tx: Transaction, found: Iterable[Job], task_of: Mapping[int, Task]
) -> dict[int, list[File]]:
    """Returns the files that each job reads, the library last, by job."""
    job_of = {job.job_id: job for job in found}
    read = files.get_inputs(tx, job_of)
    for job_id, job in job_of.items():
        library = task_of[job.task_id].library
        if job.kind is JobKind.RUN and library is not None:
            read[job_id].append(library)
    return read
