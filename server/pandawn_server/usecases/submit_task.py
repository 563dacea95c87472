"""A user submits a task: it is judged as a whole, gets a queue, and becomes jobs in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pandawn_server.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PreconditionError,
)
from pandawn_server.domain.events import Event
from pandawn_server.domain.queues import Queue, QueueStatus
from pandawn_server.domain.tasks import (
    Task,
    TaskProgress,
    TaskSpec,
    output_directory,
    oversized_jobs,
    spec_violations,
    split,
)
from pandawn_server.storage import events, files, jobs, queues, requests, sandboxes, tasks
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.requests import Answer
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.register_pilot import queue_not_found


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task and how far it is."""

    task: Task
    progress: TaskProgress


def submit_task(context: Context, request_id: str, fingerprint: str, spec: TaskSpec) -> TaskView:
    """Submits a task; the same `request_id` returns the same task.

    `fingerprint` digests the request, so that a request_id used for another task is noticed.
    Raises the errors that `Broker.SubmitTask` names.
    """
    now = context.clock()
    reason, violations = spec_violations(spec)
    if violations:
        raise InvalidRequestError.of(violations, reason)
    new_jobs = split(spec)
    with context.db.write() as tx:
        answer = requests.get_answer(tx, request_id)
        if answer is not None:
            require_same(answer, fingerprint, request_id)
            return view_of(tx, answer.task_id)
        if spec.sandbox_id and spec.sandbox_id not in sandboxes.known_sandboxes(
            tx, [spec.sandbox_id]
        ):
            raise sandbox_not_found(spec.sandbox_id)
        queue = _choose_queue(tx, spec)
        if not queue.storage_root:
            raise PreconditionError(
                "NO_STORAGE_ROOT",
                f"queue {queue.name!r} has no storage_root, so outputs and logs have no place; "
                "its site administrator can set one",
                metadata={"queue": queue.name},
            )
        oversized = oversized_jobs(new_jobs, queue.max_input_bytes)
        if oversized:
            raise InvalidRequestError.of(oversized, "INPUT_TOO_LARGE")
        known = tasks.find_dataset(tx, spec.user, spec.dataset)
        if known is not None:
            raise ConflictError(
                "DATASET_EXISTS",
                f"task {known} of {spec.user} writes dataset {spec.dataset!r} already; choose another name, "
                f"or `pandawn retry --task {known}` to run what failed",
                metadata={"task_id": str(known)},
            )
        output_url = output_directory(queue.storage_root, spec.user, spec.dataset, now)
        task_id = tasks.insert_task(tx, spec, queue.name, queue.site, output_url, now)
        job_ids = jobs.insert_jobs(tx, task_id, spec, queue.name, new_jobs, now)
        files.insert_inputs(tx, zip(job_ids, (job.inputs for job in new_jobs), strict=True))
        requests.insert_answer(tx, request_id, Answer(fingerprint, task_id, ()), now)
        text = (
            f"{spec.user} submitted {len(new_jobs)} jobs to {queue.name} for dataset {spec.dataset}"
        )
        events.insert_events(
            tx,
            [Event(now, "TASK_SUBMITTED", text, task_id=task_id, queue=queue.name, user=spec.user)],
        )
        return view_of(tx, task_id)


def require_same(answer: Answer, fingerprint: str, request_id: str) -> None:
    """Raises `ConflictError` (REQUEST_ID_REUSED) if an answer belongs to another request."""
    if answer.fingerprint != fingerprint:
        raise ConflictError(
            "REQUEST_ID_REUSED",
            f"request_id {request_id!r} was used for another request; draw a new one for each",
            metadata={"request_id": request_id},
        )


def sandbox_not_found(sandbox_id: str) -> NotFoundError:
    """The error for a sandbox that nobody uploaded."""
    return NotFoundError(
        "SANDBOX_NOT_FOUND",
        f"there is no sandbox {sandbox_id!r}; upload it first",
        metadata={"sandbox_id": sandbox_id},
    )


def view_of(tx: Transaction, task_id: int) -> TaskView:
    """A task that exists, and how far it is."""
    return TaskView(
        tasks.get_tasks(tx, [task_id])[task_id], tasks.get_progress(tx, [task_id])[task_id]
    )


def _choose_queue(tx: Transaction, spec: TaskSpec) -> Queue:
    if spec.queue:
        queue = queues.get_queues(tx, [spec.queue]).get(spec.queue)
        if queue is None:
            raise queue_not_found(spec.queue)
        if spec.site and queue.site != spec.site:
            raise PreconditionError(
                "NO_QUEUE_AVAILABLE",
                f"queue {queue.name!r} belongs to site {queue.site!r}, not to {spec.site!r}; name one of them",
            )
        if queue.status is QueueStatus.OFFLINE:
            raise PreconditionError(
                "QUEUE_OFFLINE",
                f"queue {queue.name!r} is offline and takes no tasks; name another queue, or none "
                "to have one chosen",
                metadata={"queue": queue.name},
            )
        return queue
    known = queues.all_queues(tx)
    return _best_queue(tx, spec, known)


def _best_queue(tx: Transaction, spec: TaskSpec, known: Sequence[Queue]) -> Queue:
    of_site = [queue for queue in known if not spec.site or queue.site == spec.site]
    if not of_site:
        if spec.site:
            raise NotFoundError(
                "SITE_NOT_FOUND",
                f"no queue belongs to a site {spec.site!r}; `pandawn queues list` shows those that exist",
                metadata={"site": spec.site},
            )
        raise PreconditionError(
            "NO_QUEUE_AVAILABLE",
            "no queue is configured; a site administrator can with `pandawn queues apply`",
        )
    online = [
        queue for queue in of_site if queue.status is QueueStatus.ONLINE and queue.storage_root
    ]
    if not online:
        states = ", ".join(f"{queue.name}: {queue.status.value}" for queue in of_site[:10])
        raise PreconditionError(
            "NO_QUEUE_AVAILABLE",
            f"no queue with a storage_root is online ({states}); name a queue to use one that is in "
            "test or brokeroff",
        )
    # The least work for each pilot that is there to do it, as PanDA's brokerage weighs sites; a
    # queue without pilots counts as having one that is late.
    load = jobs.queue_loads(tx, [queue.name for queue in online])
    return min(online, key=lambda queue: (load[queue.name], queue.name))
