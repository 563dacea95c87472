"""What a pilot gets with a lease: the job, its task, and the locations of its inputs and outputs.

Works inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pandawn_server.domain.dispatch.matching import sentence
from pandawn_server.domain.leases.attempts import Match
from pandawn_server.domain.leases.leases import first_lease
from pandawn_server.domain.queues.queues import Queue
from pandawn_server.domain.tasks.jobs import JobKind
from pandawn_server.domain.tasks.tasks import File, OutputPlan, Task, planned_outputs
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.dispatch.handout import HandedJob, Offer, read_handed
from pandawn_server.storage.leases import attempts, leases
from pandawn_server.storage.leases.leases import NewLease
from pandawn_server.usecases.dispatch.desks import CallKey
from pandawn_server.usecases.dispatch.known import Known


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease with all that the pilot needs to run the job. `library` is among `inputs` too.

    `duration` is how long the lease lasts unless renewed. `queue_revision` is the queue's revision when the job
    was given out; `queue` may be newer.
    """

    job: HandedJob
    task: Task
    queue: Queue
    inputs: tuple[File, ...]
    library: File | None
    outputs: tuple[OutputPlan, ...]
    token: str
    duration: timedelta
    match: Match
    explanation: str
    queue_revision: int

    @property
    def attempt(self) -> int:
        """Number of the attempt."""
        return self.job.attempt


def new_grants(
    tx: Transaction,
    known: Known,
    handed: Iterable[tuple[Offer, HandedJob]],
    queue_of: Mapping[str, Queue],
) -> list[tuple[CallKey, Grant]]:
    """The grants for jobs that were just given to pilots, with the calls that asked for them."""
    pairs = list(handed)
    task_of = known.tasks(tx, {job.task_id for _, job in pairs})
    return [
        (
            (offer.pilot_id, offer.request_id),
            _grant(
                job,
                task_of[job.task_id],
                queue_of[offer.queue],
                offer.token,
                first_lease(offer.duration),
                offer.match,
                offer.text,
                offer.queue_revision,
            ),
        )
        for offer, job in pairs
    ]


def _grant(
    job: HandedJob,
    task: Task,
    queue: Queue,
    token: str,
    duration: timedelta,
    match: Match,
    explanation: str,
    queue_revision: int,
) -> Grant:
    library = task.library if job.kind is JobKind.RUN else None
    return Grant(
        job=job,
        task=task,
        queue=queue,
        inputs=job.files if library is None else (*job.files, library),
        library=library,
        outputs=tuple(planned_outputs(task, job.kind, job.index, job.job_id, job.attempt)),
        token=token,
        duration=duration,
        match=match,
        explanation=explanation,
        queue_revision=queue_revision,
    )


def repeated_grants(
    tx: Transaction,
    known: Known,
    keys: Collection[CallKey],
    queue_of: Mapping[str, Queue],
    queue_names: Mapping[str, str],
) -> dict[CallKey, list[Grant]]:
    """The grants that calls got the first time, for calls repeated because the answer was lost.

    `queue_names` maps pilots to their queues.
    """
    leased: dict[CallKey, list[NewLease]] = leases.get_granted(tx, keys)
    found: Sequence[NewLease] = [lease for mine in leased.values() for lease in mine]
    if not found:
        return {}
    handed = read_handed(tx, [lease.job_id for lease in found])
    task_of = known.tasks(tx, {job.task_id for job in handed.values()})
    attempt_of = attempts.get_attempts(tx, [(lease.job_id, lease.attempt) for lease in found])
    grants: dict[CallKey, list[Grant]] = {}
    for key, mine in leased.items():
        for lease in mine:
            attempt = attempt_of[lease.job_id, lease.attempt]
            match = attempt.match
            job = handed[lease.job_id]
            grants.setdefault(key, []).append(
                _grant(
                    job,
                    task_of[job.task_id],
                    queue_of[queue_names[lease.pilot_id]],
                    lease.token,
                    # The first duration again, whether or not it was renewed since.
                    first_lease(lease.duration),
                    match,
                    sentence(match, lease.key.node),
                    attempt.queue_revision,
                )
            )
    return grants
