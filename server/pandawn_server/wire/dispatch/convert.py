"""Conversion of messages between pilots and the domain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import lru_cache

from google.protobuf.duration_pb2 import Duration

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, report_pb2
from pandawn_server.domain.access.principals import Session
from pandawn_server.domain.catalog.file_version import file_version
from pandawn_server.domain.catalog.inventory import CacheState
from pandawn_server.domain.errors import PandawnError
from pandawn_server.domain.queues.queues import Queue
from pandawn_server.domain.tasks.jobs import JobKind, Phase, Requirements
from pandawn_server.domain.tasks.tasks import File, FileRole, Task
from pandawn_server.usecases.dispatch.leasing import Grant
from pandawn_server.usecases.dispatch.round import AcquireAnswer
from pandawn_server.usecases.leases.renew import HeartbeatAnswer, Renewal, Renewed
from pandawn_server.usecases.leases.report import LeaseRef, Report
from pandawn_server.wire.edge.enums import JOB_KIND, PHASE
from pandawn_server.wire.edge.errors import item_status
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.edge.values import (
    fill_duration,
    fill_file,
    fill_match,
    from_error,
    from_file,
    from_use,
    to_duration,
)

_MAX_PHASE_TIME = timedelta(days=365)
_MAX_PHASE_TIMES = 100
_MAX_STORED = 1000

Path = tuple[str | int, ...]


def from_cache(
    check: Checker,
    request: dispatcher_pb2.AcquireJobsRequest | dispatcher_pb2.RenewLeasesRequest,
) -> CacheState:
    """Checks and converts the state of a node's cache."""
    cache = request.cache
    check.require(cache.epoch != 0, "cache.epoch", "must not be 0")
    check.size("cache.sequence", cache.sequence)
    return CacheState(cache.epoch, cache.sequence, cache.digest)


def from_renewals(
    check: Checker, renewals: Iterable[dispatcher_pb2.LeaseRenewal]
) -> Iterator[Renewal]:
    """Checks and converts renewals."""
    for position, renewal in enumerate(renewals):
        path = ("renewals", position)
        ref = from_lease_ref(check, (*path, "lease"), renewal.lease, None)
        phase = PHASE.to_domain(renewal.phase)
        check.require(phase is not None, (*path, "phase"), "must be set")
        from_use(check, (*path, "resource_use"), renewal.resource_use)
        yield Renewal(ref.job_id, ref.attempt, ref.lease_token, phase or Phase.STAGE_IN)


def from_lease_ref(
    check: Checker, path: Path, message: report_pb2.LeaseRef, session: Session | None
) -> LeaseRef:
    """Checks and converts a lease reference, adding the caller's session."""
    check.number((*path, "job_id"), message.job_id)
    check.range((*path, "attempt"), message.attempt, 1, 2**31 - 1)
    check.identifier((*path, "lease_token"), message.lease_token)
    return LeaseRef(message.job_id, message.attempt, message.lease_token, session)


def from_report(
    check: Checker, path: Path, message: report_pb2.JobReport, session: Session | None
) -> Report:
    """Checks and converts the report of an ended attempt."""
    failed = message.outcome == report_pb2.OUTCOME_FAILED
    check.require(
        failed or message.outcome == report_pb2.OUTCOME_FINISHED,
        (*path, "outcome"),
        "must be FINISHED or FAILED",
    )
    check.require(
        failed == message.HasField("error"),
        (*path, "error"),
        "must be set exactly for a failed job",
    )
    check.count((*path, "phase_times"), message.phase_times, 0, _MAX_PHASE_TIMES)
    check.count((*path, "outputs"), message.outputs, 0, _MAX_STORED)
    phase_times: dict[Phase, timedelta] = {}
    for position, spent in enumerate(message.phase_times):
        phase = PHASE.to_domain(spent.phase)
        at = (*path, "phase_times", position)
        check.require(phase is not None, (*at, "phase"), "must be set")
        span = check.duration((*at, "duration"), spent.duration, maximum=_MAX_PHASE_TIME)
        if phase is not None:
            phase_times[phase] = span
    return Report(
        lease=from_lease_ref(check, (*path, "lease"), message.lease, session),
        error=from_error(check, (*path, "error"), message.error) if failed else None,
        exit_code=message.exit_code if message.HasField("exit_code") else None,
        outputs=tuple(
            _from_stored(check, (*path, "outputs", position), output)
            for position, output in enumerate(message.outputs)
        ),
        log=_from_stored(check, (*path, "log"), message.log) if message.HasField("log") else None,
        use=from_use(check, (*path, "resource_use"), message.resource_use),
        input_bytes=check.size((*path, "input_bytes"), message.input_bytes),
        bytes_from_cache=check.size((*path, "bytes_from_cache"), message.bytes_from_cache),
        phase_times=phase_times,
    )


def _from_stored(check: Checker, path: Path, message: report_pb2.StoredFile) -> File:
    check.file((*path, "file"), message.file)
    check.url((*path, "url"), message.url)
    version = file_version(message.url, checksum=message.file.checksum)
    return from_file(message.file, message.url, version)


def to_acquired(answer: AcquireAnswer, shutting_down: bool) -> dispatcher_pb2.AcquireJobsResponse:
    """The leases for a pilot, or when to poll again."""
    message = dispatcher_pb2.AcquireJobsResponse(
        inventory_requested=answer.inventory_requested,
        idle_reason=answer.idle_reason,
        queue_revision=answer.queue_revision,
        drain=answer.drain,
    )
    for grant in answer.grants:
        _fill_lease(message.leases.add(), grant)
    if not answer.grants:
        message.retry_after.FromTimedelta(answer.retry_after)
        if shutting_down:
            message.idle_reason = "the server is stopping; ask again, another server may answer"
    return message


# Messages are filled in place: a message that is made first and then put into another is copied, which for the
# parts of a lease took most of the time.


def _fill_lease(lease: dispatcher_pb2.Lease, grant: Grant) -> None:
    lease.attempt = grant.attempt
    lease.lease_token = grant.token
    fill_duration(lease.lease_duration, grant.duration)
    fill_match(lease.job_match, grant.match, grant.explanation)
    _fill_spec(lease.job, grant)


def _fill_spec(message: dispatcher_pb2.JobSpec, grant: Grant) -> None:
    job = grant.job
    queue, task = grant.queue, grant.task
    message.MergeFromString(_same_in_all(_SameTask(job.task_id, task, queue), job.kind))
    message.job_id = job.job_id
    message.index = job.index
    message.queue_revision = grant.queue_revision
    if grant.library is None:
        # A run job gets the user's code from the library, if there is one.
        message.sandbox_id = task.spec.sandbox_id
    add = message.inputs.add
    for file in grant.inputs:
        entry = add()
        entry.url = file.url
        fill_file(entry.file, file)
        if file == grant.library:
            entry.library = True
    for plan in grant.outputs:
        if plan.role is FileRole.OUTPUT:
            message.outputs.add(name=plan.name, lfn=plan.lfn, url=plan.url, scope=plan.scope)
        else:
            log = message.log
            log.name, log.lfn, log.scope, log.url, _ = plan


class _SameTask:
    """A task on a queue, as a cache key: a task does not change, and of the queue only its limits matter."""

    __slots__ = ("key", "queue", "task")

    def __init__(self, task_id: int, task: Task, queue: Queue) -> None:
        self.key = (
            task_id,
            queue.max_input_bytes,
            queue.max_work_dir_bytes,
            queue.max_wall_time,
            queue.memory_bytes,
        )
        self.task = task
        self.queue = queue

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameTask) and self.key == other.key


@lru_cache(4096)
def _same_in_all(same: _SameTask, kind: JobKind) -> bytes:
    """The fields that all jobs of one kind in a task share, serialised as the start of their messages."""
    spec = same.task.spec
    return dispatcher_pb2.JobSpec(
        task_id=same.task.task_id,
        kind=JOB_KIND.to_wire(kind),
        user=spec.user,
        command=spec.build_command if kind is JobKind.BUILD else spec.command,
        environment=dict(spec.environment),
        limits=_to_limits(same.queue, spec.requirements),
    ).SerializeToString()


def _to_limits(queue: Queue, asked: Requirements) -> dispatcher_pb2.Limits:
    wall_time = min(queue.max_wall_time, asked.wall_time or queue.max_wall_time)
    memory = [limit for limit in (queue.memory_bytes, asked.memory_bytes) if limit]
    work_dir = [limit for limit in (queue.max_work_dir_bytes, asked.disk_bytes) if limit]
    return dispatcher_pb2.Limits(
        max_input_bytes=queue.max_input_bytes,
        max_work_dir_bytes=min(work_dir, default=0),
        max_wall_time=to_duration(wall_time),
        memory_bytes=min(memory, default=0),
    )


def to_heartbeat_answer(answer: HeartbeatAnswer) -> dispatcher_pb2.RenewLeasesResponse:
    """The answer to a heartbeat."""
    return dispatcher_pb2.RenewLeasesResponse(
        results=map(_to_renewal_result, answer.results),
        inventory_requested=answer.inventory_requested,
        drain=answer.drain is not None,
        drain_reason=answer.drain or "",
        queue_revision=answer.queue_revision,
    )


def _to_renewal_result(result: Renewed | PandawnError) -> dispatcher_pb2.RenewalResult:
    if isinstance(result, PandawnError):
        return dispatcher_pb2.RenewalResult(
            status=item_status(result),
            command=dispatcher_pb2.JOB_COMMAND_UNSPECIFIED,
            lease_duration=Duration(),
        )
    command = (
        dispatcher_pb2.JOB_COMMAND_CANCEL if result.cancel else dispatcher_pb2.JOB_COMMAND_CONTINUE
    )
    return dispatcher_pb2.RenewalResult(
        status=common_pb2.ItemStatus(),
        command=command,
        lease_duration=to_duration(result.duration),
    )
