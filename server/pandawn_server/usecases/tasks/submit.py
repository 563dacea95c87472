"""A user submits a task: the server checks it, chooses its queue, and inserts its jobs, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pandawn_server.domain.access.lists import NO_LIMIT
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.dispatch.reply_size import too_large_to_describe
from pandawn_server.domain.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    PreconditionError,
    Violation,
)
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.queues import Queue
from pandawn_server.domain.tasks.tasks import (
    NewJob,
    TaskSpec,
    TaskView,
    output_directory,
    oversized_jobs,
    spec_violations,
    split,
    with_unique_names,
)
from pandawn_server.storage import requests
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.monitor import events
from pandawn_server.storage.requests import Answer, RequestKey
from pandawn_server.storage.tasks import files, jobs, sandboxes, tasks
from pandawn_server.usecases.access.limits import identity_for, release
from pandawn_server.usecases.brokerage.choose_queue import choose_queue
from pandawn_server.usecases.context import Context


def submit_task(
    context: Context, request_id: str, fingerprint: str, spec: TaskSpec, by: Principal
) -> TaskView:
    """Submits a task; the same `request_id` returns the same task.

    `fingerprint` is a digest of the request: it detects that a request_id was used for another task.
    Raises the errors listed at `Broker.SubmitTask`.
    """
    now = context.clock()
    spec = _owned(spec, by)
    reason, violations = spec_violations(spec)
    if violations:
        raise InvalidRequestError.of(violations, reason)
    key = RequestKey(by.name, request_id, fingerprint)
    new_jobs: Sequence[NewJob] = split(spec)
    too_large = too_large_to_describe(spec, new_jobs)
    if too_large:
        raise InvalidRequestError.of(too_large, "JOB_TOO_LARGE")
    with context.db.write() as tx:
        answer = requests.get_answer(tx, key)
        if answer is not None:
            return view_of(tx, answer.task_id)
        if spec.sandbox_id:
            _require_sandbox(tx, spec.sandbox_id, by)
        who = identity_for(tx, by, spec.user, now)
        # Refreshed from the database: a task must not go to a queue that was just taken offline.
        config = context.config.refresh(tx)
        choice = choose_queue(tx, config, spec, len(new_jobs), who, now)
        queue = choice.queue
        if not queue.storage_root:
            raise PreconditionError(
                "NO_STORAGE_ROOT",
                f"queue {queue.name!r} has no storage_root, so outputs and logs cannot be stored; "
                "an administrator of its site can set one",
                metadata={"queue": queue.name},
            )
        _check_priority(spec, queue, by)
        oversized = oversized_jobs(new_jobs, queue.max_input_bytes)
        if oversized:
            raise InvalidRequestError.of(oversized, "INPUT_TOO_LARGE")
        new_jobs = with_unique_names(new_jobs, queue.immutable_scopes)
        known = tasks.find_dataset(tx, spec.user, spec.dataset)
        if known is not None:
            raise ConflictError(
                "DATASET_EXISTS",
                f"task {known} of {spec.user} already writes to dataset {spec.dataset!r}; choose another name, "
                f"or run `pandawn retry --task {known}` to retry its failed jobs",
                metadata={"task_id": str(known)},
            )
        spec = replace(spec, priority=spec.priority + choice.decision.priority_offset.value)
        output_url = output_directory(queue.storage_root, spec.user, spec.dataset, now)
        task_id = tasks.insert_task(
            tx, spec, queue.name, queue.site, output_url, choice.passed_over, now
        )
        limit = choice.decision.max_running.value
        job_ids = jobs.insert_jobs(
            tx, task_id, spec, queue.name, new_jobs, now, throttled=limit != NO_LIMIT
        )
        files.insert_inputs(tx, zip(job_ids, (job.inputs for job in new_jobs), strict=True))
        if limit != NO_LIMIT:
            release(tx, queue.name, spec.user, limit, now)
        requests.insert_answer(tx, key, Answer(task_id), now)
        text = (
            f"{spec.user} submitted {len(new_jobs)} jobs to {queue.name} for dataset {spec.dataset}"
        )
        if choice.passed_over:
            text += f"; skipped queues: {choice.passed_over}"
        events.insert_events(
            tx,
            [
                Event(
                    now,
                    EventKind.TASK_SUBMITTED,
                    text,
                    task_id=task_id,
                    queue=queue.name,
                    user=spec.user,
                )
            ],
        )
        return view_of(tx, task_id)


def _check_priority(spec: TaskSpec, queue: Queue, by: Principal) -> None:
    """Raises `ForbiddenError` (PRIORITY_NOT_GRANTED) for a priority that would put the task before other users' jobs.

    Within the band of priority 0 users order their own jobs. A site grants higher priorities by its access list.
    """
    most = queue.priority_band - 1
    if spec.priority > most and not by.administers(queue.site):
        raise ForbiddenError(
            "PRIORITY_NOT_GRANTED",
            f"priority {spec.priority} would go before jobs of other users; on queue {queue.name} the highest priority "
            f"is {most}, which orders your own jobs. The site's administrators can grant more by the access list",
            metadata={"queue": queue.name, "most": str(most)},
        )


def _owned(spec: TaskSpec, by: Principal) -> TaskSpec:
    """Returns the task with its owner: an operator names the owner, any other caller is the owner."""
    user = spec.user or by.name
    if user != by.name and not by.is_operator:
        raise ForbiddenError(
            "NOT_YOUR_NAME",
            f"you are {by.name} and cannot submit for {user}; leave the user out",
            metadata={"user": by.name},
        )
    if not user:
        # Of all callers only the operator on this machine has no name.
        raise InvalidRequestError.of([Violation("task.user", "must be set")])
    return replace(spec, user=user)


def _require_sandbox(tx: Transaction, sandbox_id: str, by: Principal) -> None:
    known = (
        sandboxes.known_sandboxes(tx, [sandbox_id])
        if by.is_operator
        else sandboxes.sandboxes_of(tx, by.name, [sandbox_id])
    )
    if sandbox_id not in known or not sandboxes.keep(tx, sandbox_id):
        # Also if only another user has uploaded the archive: success would reveal what others run.
        raise sandbox_not_found(sandbox_id)


def sandbox_not_found(sandbox_id: str) -> NotFoundError:
    """Returns the error for a sandbox that the caller has not uploaded."""
    return NotFoundError(
        "SANDBOX_NOT_FOUND",
        f"there is no sandbox {sandbox_id!r}; upload it first",
        metadata={"sandbox_id": sandbox_id},
    )


def view_of(tx: Transaction, task_id: int) -> TaskView:
    """Returns an existing task with its progress."""
    return TaskView(
        tasks.get_tasks(tx, [task_id])[task_id], tasks.get_progress(tx, [task_id])[task_id]
    )
