"""Tasks as submitted, with their libraries and their progress."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, exists, func, insert, select, update

from pandawn_server.domain.catalog.file_version import file_version
from pandawn_server.domain.tasks.jobs import FINAL_STATES, JobState
from pandawn_server.domain.tasks.tasks import File, Task, TaskProgress, TaskSpec
from pandawn_server.storage.among import among
from pandawn_server.storage.columns import requirement_columns, to_requirements
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.identifiers import task_id_beyond_skipped
from pandawn_server.storage.leases.schema import attempts
from pandawn_server.storage.tasks.labels import has_labels, insert_labels
from pandawn_server.storage.tasks.schema import jobs, tasks


def _to_task(row: RowMapping) -> Task:
    library = None
    if row["library_lfn"] is not None:
        library = File(
            row["library_lfn"],
            row["library_bytes"],
            row["library_url"],
            checksum=row["library_checksum"],
            version=file_version(row["library_url"], checksum=row["library_checksum"]),
        )
    spec = TaskSpec(
        user=row["user"],
        dataset=row["dataset"],
        command=tuple(row["command"]),
        queue=row["queue"],
        site=row["site"],
        files_per_job=row["files_per_job"],
        outputs=tuple(row["outputs"]),
        build=row["build"],
        build_command=tuple(row["build_command"]),
        sandbox_id=row["sandbox_id"],
        environment=row["environment"],
        labels=row["labels"] or {},
        requirements=to_requirements(row),
        priority=row["priority"],
        max_attempts=row["max_attempts"],
        test=row["test"],
    )
    return Task(
        task_id=row["task_id"],
        spec=spec,
        queue=row["queue"],
        site=row["site"],
        output_url=row["output_url"],
        create_time=row["create_time"],
        library=library,
        passed_over=row["passed_over"],
        named_by_task=row["named_by_task"],
    )


def insert_task(
    tx: Transaction,
    spec: TaskSpec,
    queue: str,
    site: str,
    output_url: str,
    passed_over: str,
    now: datetime,
) -> int:
    """Stores a new task without its jobs and inputs; returns its identifier."""
    row = {
        "user": spec.user,
        "dataset": spec.dataset,
        "queue": queue,
        "site": site,
        "priority": spec.priority,
        "max_attempts": spec.max_attempts,
        "files_per_job": spec.files_per_job,
        "build": spec.build,
        "test": spec.test,
        "sandbox_id": spec.sandbox_id,
        "command": list(spec.command),
        "build_command": list(spec.build_command),
        "outputs": list(spec.outputs),
        "environment": dict(spec.environment),
        "labels": dict(spec.labels) or None,
        "output_url": output_url,
        "passed_over": passed_over,
        "create_time": now,
        "named_by_task": True,
        **requirement_columns(spec.requirements),
    }
    beyond = task_id_beyond_skipped(tx)
    if beyond is not None:
        row["task_id"] = beyond
    task_id: int = tx.execute(insert(tasks).values(row).returning(tasks.c.task_id)).scalar_one()
    insert_labels(tx, task_id, spec.labels)
    return task_id


def get_tasks(tx: Transaction, task_ids: Collection[int]) -> dict[int, Task]:
    """Returns the tasks that exist among `task_ids`, by identifier."""
    if not task_ids:
        return {}
    rows = tx.execute(select(tasks).where(among(tx, tasks.c.task_id, task_ids))).mappings()
    return {row["task_id"]: _to_task(row) for row in rows}


def lock_tasks(tx: Transaction, task_ids: Collection[int]) -> dict[int, Task]:
    """Returns tasks as `get_tasks` does, and locks them until the end of the transaction.

    A transaction needs this lock to end a build job, to add jobs that may wait for it, and to end
    such jobs. Otherwise two would not see each other's changes, and a job would wait for ever.
    """
    if not task_ids:
        return {}
    query = (
        select(tasks)
        .where(among(tx, tasks.c.task_id, task_ids))
        .order_by(tasks.c.task_id)
        .with_for_update(key_share=True)
    )
    return {row["task_id"]: _to_task(row) for row in tx.execute(query).mappings()}


def find_dataset(tx: Transaction, user: str, dataset: str) -> int | None:
    """Returns the identifier of a user's task that writes a dataset, or None."""
    query = select(tasks.c.task_id).where(tasks.c.user == user, tasks.c.dataset == dataset)
    return tx.execute(query).scalar()


def list_tasks(
    tx: Transaction,
    before: int | None,
    limit: int,
    user: str,
    queue: str = "",
    labels: Mapping[str, str] | None = None,
) -> list[Task]:
    """Returns up to `limit` tasks below `before`, newest first; an empty user, queue or labels match any."""
    query = select(tasks).order_by(tasks.c.task_id.desc()).limit(limit)
    if before is not None:
        query = query.where(tasks.c.task_id < before)
    if user:
        query = query.where(tasks.c.user == user)
    if queue:
        query = query.where(tasks.c.queue == queue)
    if labels:
        query = query.where(has_labels(tasks.c.task_id, labels))
    return [_to_task(row) for row in tx.execute(query).mappings()]


def set_library(tx: Transaction, task_id: int, library: File) -> None:
    """Records the library that the build job of a task made."""
    tx.execute(
        update(tasks)
        .where(tasks.c.task_id == task_id)
        .values(
            library_lfn=library.lfn,
            library_url=library.url,
            library_bytes=library.size_bytes,
            library_checksum=library.checksum,
        )
    )


def get_progress(tx: Transaction, task_ids: Sequence[int]) -> dict[int, TaskProgress]:
    """Returns the progress of tasks, by identifier; jobs that a retry replaced do not count."""
    if not task_ids:
        return {}
    current = among(tx, jobs.c.task_id, task_ids) & jobs.c.retry_job_id.is_(None)
    counts: dict[int, dict[JobState, int]] = {task_id: {} for task_id in task_ids}
    latest: dict[int, datetime] = {}
    for task_id, state, count, newest in tx.execute(
        select(jobs.c.task_id, jobs.c.state, func.count(), func.max(jobs.c.state_time))
        .where(current)
        .group_by(jobs.c.task_id, jobs.c.state)
    ):
        counts[task_id][JobState(state)] = count
        latest[task_id] = max(newest, latest.get(task_id, newest))
    staged = {
        task_id: (input_bytes, from_cache)
        for task_id, input_bytes, from_cache in tx.execute(
            select(
                jobs.c.task_id,
                func.sum(attempts.c.input_bytes),
                func.sum(attempts.c.bytes_from_cache),
            )
            .join(
                attempts,
                (attempts.c.job_id == jobs.c.job_id) & (attempts.c.attempt == jobs.c.attempt),
            )
            .where(current, jobs.c.state == JobState.FINISHED.value)
            .group_by(jobs.c.task_id)
        )
    }
    return {
        task_id: TaskProgress(
            job_counts=counts[task_id],
            # PostgreSQL sums bigint as numeric.
            input_bytes=int(staged.get(task_id, (0, 0))[0]),
            bytes_from_cache=int(staged.get(task_id, (0, 0))[1]),
            last_state_time=latest.get(task_id),
        )
        for task_id in task_ids
    }


def close_ended(tx: Transaction, now: datetime, limit: int) -> list[Task]:
    """Marks tasks whose jobs have all ended as closed and returns them; each is returned once."""
    open_job = exists().where(
        jobs.c.task_id == tasks.c.task_id,
        # A list of states, not a negation: so the index skips the thousands of jobs that have ended.
        jobs.c.state.in_([state.value for state in JobState if state not in FINAL_STATES]),
    )
    query = (
        select(tasks)
        .where(tasks.c.close_time.is_(None), ~open_job)
        .order_by(tasks.c.task_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ended = [_to_task(row) for row in tx.execute(query).mappings()]
    if ended:
        ids = [task.task_id for task in ended]
        tx.execute(update(tasks).where(among(tx, tasks.c.task_id, ids)).values(close_time=now))
    return ended


def reopen(tx: Transaction, task_id: int) -> None:
    """Marks a task as open again, after a retry added jobs: it will be closed again."""
    tx.execute(update(tasks).where(tasks.c.task_id == task_id).values(close_time=None))
