"""Takes reports of pilots on how attempts ended, and jobs that they give back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pandawn_server.domain.access.pilot_rights import may_speak_for, not_your_lease
from pandawn_server.domain.access.principals import Session
from pandawn_server.domain.catalog.file_version import VersionKind
from pandawn_server.domain.errors import InvalidRequestError, PandawnError, Violation
from pandawn_server.domain.leases.attempts import Attempt, AttemptEnd
from pandawn_server.domain.leases.leases import Lease, is_current, stale_lease
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.tasks.jobs import Job, JobError, JobKind, JobState, Phase, ResourceUse
from pandawn_server.domain.tasks.tasks import File, FileRole, Task, output_scope, planned_outputs
from pandawn_server.storage.leases import attempts, leases, pilots
from pandawn_server.storage.tasks import jobs
from pandawn_server.storage.tasks.job_files import tasks_of
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.leases.ending import Ended, Ending, end_attempts, ending
from pandawn_server.usecases.leases.holders import other_holders


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """Names a lease, with its token as proof. `session` is the caller's; None if an operator calls."""

    job_id: int
    attempt: int
    lease_token: str
    session: Session | None


@dataclass(frozen=True, slots=True)
class Report:
    """How one attempt ended; `error` is None if and only if it finished."""

    lease: LeaseRef
    error: JobError | None
    exit_code: int | None = None
    outputs: tuple[File, ...] = ()
    log: File | None = None
    use: ResourceUse = field(default_factory=ResourceUse)
    input_bytes: int = 0
    bytes_from_cache: int = 0
    phase_times: Mapping[Phase, timedelta] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reported:
    """An accepted report; `state` is the job's state after it."""

    state: JobState


def report_jobs(context: Context, reports: Sequence[Report]) -> list[Reported | PandawnError]:
    """Applies reports; returns one answer per report, in order. A repeated report gets the same answer as before.

    An answer may be `PreconditionError` (STALE_LEASE), `ForbiddenError` (NOT_YOUR_LEASE) or
    `InvalidRequestError` (OUTPUTS_MISSING).
    """
    with context.db.write() as tx:
        now = context.clock()
        held = leases.lock_leases(tx, {r.lease.job_id for r in reports})
        ended_before = attempts.get_attempts(
            tx, {(r.lease.job_id, r.lease.attempt) for r in reports}
        )
        others = other_holders(
            tx,
            (
                (r.lease.session, known.pilot_id)
                for r in reports
                if (known := ended_before.get((r.lease.job_id, r.lease.attempt))) is not None
            ),
        )
        accepted: dict[int, Ending] = {}
        refused: dict[int, PandawnError] = {}
        job_of = jobs.get_jobs(tx, {r.lease.job_id for r in reports})
        task_of = tasks_of(tx, job_of.values())
        for position, report in enumerate(reports):
            ref = report.lease
            lease = held.get(ref.job_id)
            if lease is None or not is_current(lease, ref.attempt, ref.lease_token):
                continue
            if not may_speak_for(ref.session, lease.pilot_id, others.get(lease.pilot_id)):
                continue
            job = job_of[ref.job_id]
            missing = _missing_outputs(report, job, task_of[job.task_id])
            if missing:
                refused[position] = InvalidRequestError.of(missing, "OUTPUTS_MISSING")
            else:
                scope = output_scope(job.user)
                accepted.setdefault(ref.job_id, _ending(context, report, lease, scope))
        config = context.config.current(tx)
        ended = end_attempts(tx, config, list(accepted.values()), now)
        seen = pilots.get_pilots(tx, {e.lease.pilot_id for e in accepted.values()})
        pilots.record_contact(tx, [p.pilot_id for p in seen.values() if p.contact_is_due(now)], now)
    if ended.doubts:
        context.desks.doubt(ended.doubts, now)
    return [
        refused[position]
        if position in refused
        else _answer(report.lease, ended, accepted, ended_before, others)
        for position, report in enumerate(reports)
    ]


_SHA256 = f"{VersionKind.SHA256.value}:"


def _missing_outputs(report: Report, job: Job, task: Task) -> list[Violation]:
    if report.error is not None:
        return []
    stored = {file.lfn: file for file in report.outputs}
    found = []
    for plan in planned_outputs(task, job.kind, job.index, job.job_id, report.lease.attempt):
        if plan.role is not FileRole.OUTPUT:
            continue
        file = stored.get(plan.lfn)
        problem = ""
        if file is None or not file.checksum:
            problem = "is missing or has no checksum; a finished job stores all outputs"
        elif job.kind is JobKind.BUILD and not file.checksum.startswith(_SHA256):
            # Other jobs run this code, so its content must be verifiable.
            problem = f"is a library, and its checksum does not start with {_SHA256}"
        if problem:
            found.append(Violation("outputs", f"{plan.lfn} {problem}"))
    return found


def _ending(context: Context, report: Report, lease: Lease, scope: str) -> Ending:
    # The server sets the owner of the files: a pilot's statement is not trusted.
    stored = [(FileRole.OUTPUT, file._replace(scope=scope)) for file in report.outputs]
    if report.log is not None:
        stored.append((FileRole.LOG, report.log._replace(scope=scope)))
    return Ending(
        AttemptEnd(
            job_id=lease.job_id,
            attempt=lease.attempt,
            outcome=JobState.FINISHED if report.error is None else JobState.FAILED,
            exit_code=report.exit_code,
            error=report.error,
            use=report.use,
            input_bytes=report.input_bytes,
            bytes_from_cache=report.bytes_from_cache,
            phase_times=dict(report.phase_times),
        ),
        lease,
        reported=True,
        slow=report.error is None
        and context.paces.is_slow(
            lease.task_id, lease.key.node, report.phase_times.get(Phase.PAYLOAD)
        ),
        stored=tuple(stored),
    )


def _answer(
    ref: LeaseRef,
    ended: Ended,
    accepted: Mapping[int, Ending],
    ended_before: Mapping[tuple[int, int], Attempt],
    others: Mapping[str, Pilot],
) -> Reported | PandawnError:
    taken = accepted.get(ref.job_id)
    known = ended_before.get((ref.job_id, ref.attempt))
    if known is None or known.lease_token != ref.lease_token:
        return stale_lease(ref.job_id, ref.attempt)
    if not may_speak_for(ref.session, known.pilot_id, others.get(known.pilot_id)):
        return not_your_lease(ref.job_id, ref.attempt)
    if taken is not None and taken.end.attempt == ref.attempt:
        return Reported(ended.states[ref.job_id])
    if known.reported_state is None:
        return stale_lease(ref.job_id, ref.attempt)
    # A repeat: the reply to the first report was lost.
    return Reported(known.reported_state)


def release_jobs(context: Context, refs: Sequence[LeaseRef]) -> list[Reported | PandawnError]:
    """Takes back jobs that were not started; returns one answer per job, in order.

    An answer may be `PreconditionError` (STALE_LEASE) or `ForbiddenError` (NOT_YOUR_LEASE).
    """
    with context.db.write() as tx:
        now = context.clock()
        held = leases.lock_leases(tx, {ref.job_id for ref in refs})
        shown = [
            (ref, held[ref.job_id])
            for ref in refs
            if is_current(held.get(ref.job_id), ref.attempt, ref.lease_token)
        ]
        others = other_holders(tx, ((ref.session, lease.pilot_id) for ref, lease in shown))
        foreign = {
            ref
            for ref, lease in shown
            if not may_speak_for(ref.session, lease.pilot_id, others.get(lease.pilot_id))
        }
        current = {ref.job_id: lease for ref, lease in shown if ref not in foreign}
        ended = end_attempts(
            tx,
            context.config.current(tx),
            [ending(lease, JobState.ACTIVATED) for lease in current.values()],
            now,
        )
    return [
        not_your_lease(ref.job_id, ref.attempt)
        if ref in foreign
        else Reported(ended.states[ref.job_id])
        if ref.job_id in ended.states and current[ref.job_id].attempt == ref.attempt
        else stale_lease(ref.job_id, ref.attempt)
        for ref in refs
    ]
