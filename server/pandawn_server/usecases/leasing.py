"""Leases are written for jobs that were claimed, and put together with all that a pilot needs.

Works inside the transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pandawn_server.domain.attempts import NewAttempt
from pandawn_server.domain.events import Event
from pandawn_server.domain.jobs import Job
from pandawn_server.domain.matching import Match, sentence
from pandawn_server.domain.pilots import Pilot
from pandawn_server.domain.queues import Queue
from pandawn_server.domain.tasks import File, OutputPlan, Task, planned_outputs
from pandawn_server.storage import attempts, events, jobs, leases
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import NewLease
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.job_files import input_files, tasks_of


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job claimed for a pilot: why, and the number of the attempt."""

    pilot: Pilot
    request_id: str
    match: Match
    attempt: int


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease with all that the pilot needs to do the job. `library` stands among `inputs` too."""

    job: Job
    task: Task
    queue: Queue
    inputs: tuple[File, ...]
    library: File | None
    outputs: tuple[OutputPlan, ...]
    attempt: int
    token: str
    duration: timedelta
    match: Match
    explanation: str


def lease_jobs(
    context: Context,
    tx: Transaction,
    claimed: Sequence[Claimed],
    queue_of: Mapping[str, Queue],
    now: datetime,
) -> dict[tuple[str, str], list[NewLease]]:
    """Writes leases and attempts for claimed jobs; returns them by (pilot_id, request_id)."""
    new: dict[tuple[str, str], list[NewLease]] = {}
    begun: list[NewAttempt] = []
    told: list[Event] = []
    job_of = jobs.get_jobs(tx, [c.match.job_id for c in claimed])
    for c in claimed:
        job = job_of[c.match.job_id]
        mine = new.setdefault((c.pilot.pilot_id, c.request_id), [])
        duration = queue_of[c.pilot.queue].lease_duration
        lease = NewLease(
            job_id=job.job_id,
            attempt=c.attempt,
            token=context.new_id(),
            pilot_id=c.pilot.pilot_id,
            key=c.pilot.key,
            request_id=c.request_id,
            ordinal=len(mine),
            expire_time=now + duration,
            duration=duration,
        )
        mine.append(lease)
        begun.append(
            NewAttempt(
                job.job_id,
                c.attempt,
                job.task_id,
                c.pilot.pilot_id,
                c.pilot.key,
                lease.token,
                c.match,
            )
        )
        told.append(
            Event(
                now,
                "JOB_SENT",
                f"attempt {c.attempt}: {sentence(c.match, c.pilot.key.node)}",
                task_id=job.task_id,
                job_id=job.job_id,
                attempt=c.attempt,
                queue=job.queue,
                node=c.pilot.key.node,
                pilot_id=c.pilot.pilot_id,
                user=job.user,
            )
        )
    leases.insert_leases(tx, [lease for mine in new.values() for lease in mine])
    attempts.insert_attempts(tx, begun, now)
    events.insert_events(tx, told)
    return new


def grants_of(
    tx: Transaction,
    leased: Mapping[tuple[str, str], Sequence[NewLease]],
    pilot_of: Mapping[str, Pilot],
    queue_of: Mapping[str, Queue],
) -> dict[int, Grant]:
    """What the pilots need to do the jobs of their leases, new or repeated, by job."""
    found = [lease for mine in leased.values() for lease in mine if lease.pilot_id in pilot_of]
    job_of = jobs.get_jobs(tx, [lease.job_id for lease in found])
    task_of = tasks_of(tx, job_of.values())
    inputs_of = input_files(tx, job_of.values(), task_of)
    attempt_of = attempts.get_attempts(tx, [(lease.job_id, lease.attempt) for lease in found])
    grants = {}
    for lease in found:
        job = job_of[lease.job_id]
        task = task_of[job.task_id]
        match = attempt_of[lease.job_id, lease.attempt].match
        files = inputs_of[job.job_id]
        grants[job.job_id] = Grant(
            job=job,
            task=task,
            queue=queue_of[pilot_of[lease.pilot_id].queue],
            inputs=tuple(files),
            library=task.library if task.library in files else None,
            outputs=tuple(planned_outputs(task, job.kind, job.index, job.job_id, lease.attempt)),
            attempt=lease.attempt,
            token=lease.token,
            duration=lease.duration,
            match=match,
            explanation=sentence(match, lease.key.node),
        )
    return grants
