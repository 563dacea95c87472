"""Labels of tasks, which their jobs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, and_, insert, select

from pandawn_server.domain.tasks.jobs import Job
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks.schema import task_labels, tasks


def insert_labels(tx: Transaction, task_id: int, labels: Mapping[str, str]) -> None:
    """Stores the labels of a new task, so that it can be found by them."""
    if labels:
        tx.execute(
            insert(task_labels),
            [{"name": n, "value": v, "task_id": task_id} for n, v in labels.items()],
        )


def has_labels(column: ColumnElement[int], labels: Mapping[str, str]) -> ColumnElement[bool]:
    """Condition that the task whose identifier is in `column` has all of `labels`, of which there is at least one."""
    return and_(
        *(
            column.in_(
                select(task_labels.c.task_id).where(
                    task_labels.c.name == name, task_labels.c.value == value
                )
            )
            for name, value in labels.items()
        )
    )


def labelled(tx: Transaction, found: Sequence[Job]) -> list[Job]:
    """Returns the jobs with the labels of their tasks, which most queries for jobs do not read."""
    query = select(tasks.c.task_id, tasks.c.labels).where(
        among(tx, tasks.c.task_id, {job.task_id for job in found})
    )
    labels = {task_id: of_task for task_id, of_task in tx.execute(query) if of_task}
    return [
        replace(job, labels=labels[job.task_id]) if job.task_id in labels else job for job in found
    ]
