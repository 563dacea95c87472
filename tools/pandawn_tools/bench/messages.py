"""Pre-encoded requests of pilots: the parts that differ between calls are inserted between constant parts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count, cycle, groupby
from operator import itemgetter

from google.protobuf.duration_pb2 import Duration

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, report_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, lookup_pb2
from pandawn_server.domain.access.principals import Session
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.usecases.access.session_book import Sessions
from pandawn_server.wire.auth.api import SESSION
from pandawn_tools.bench.h2 import Call, header
from pandawn_tools.bench.inventories import Node
from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.rows import (
    LEASES_PER_PILOT,
    OUTPUTS,
    Pool,
    dataset_name,
    job_id,
    lease_token,
    output_url,
    pilot_id,
)
from pandawn_tools.bench.workload import (
    JOBS_PER_TASK,
    SCOPE,
    SITE,
    BenchFile,
    BenchJob,
    dataset,
    group,
    groups_of,
)

ACQUIRE = "/pandawn.dispatcher.v1.Dispatcher/AcquireJobs"
RENEW = "/pandawn.dispatcher.v1.Dispatcher/RenewLeases"
REPORT = "/pandawn.dispatcher.v1.Dispatcher/ReportJobs"
ADD_FILES = "/pandawn.filecatalog.v1.FileCatalog/AddFiles"
CHECK_FILES = "/pandawn.filecatalog.v1.FileCatalog/CheckFiles"
LOCATE_FILES = "/pandawn.filecatalog.v1.FileCatalog/LocateFiles"
EMPTY = "/pandawn.bench.v1.Limit/Empty"
SET_RESPONSE = "/pandawn.bench.v1.Limit/SetResponse"

FILES_PER_CALL = 50
"""Files in a call of `AddFiles` or `CheckFiles`: those of a few jobs."""

_NEW_DATASETS = 1_000_000
"""Number of the first dataset of files that no cache holds yet."""

_REQUEST_ID = "the place of the request's number"[:32]

_request_numbers = count(1)
# Request identifiers never repeat: a repeated one would get the same lease again.
_run = f"{random.SystemRandom().getrandbits(64):016x}".encode()


def acquire_requests(pool: Pool, nodes: Sequence[Node]) -> Iterator[bytes]:
    """An endless sequence of requests of one pilot after the other, with the nodes in random order."""
    around = [_around_request_id(_acquire(pool, node)) for node in _shuffled(pool, nodes)]
    for head, tail in cycle(around):
        yield b"%b%b%016x%b" % (head, _run, next(_request_numbers), tail)


def signed_requests(pool: Pool, nodes: Sequence[Node], sessions: Sessions) -> Iterator[Call]:
    """The same, each with its pilot's session token."""
    now = datetime.now(UTC)
    shuffled = _shuffled(pool, nodes)
    shown = []
    for node in shuffled:
        bound = Session(pilot_id(pool, node.number), pool.queue, NodeKey(SITE, node.name))
        shown.append(header(SESSION, sessions.issue(bound, now)[0]))
    return map(Call, acquire_requests(pool, nodes), cycle(shown))


def _shuffled(pool: Pool, nodes: Sequence[Node]) -> list[Node]:
    return random.Random(pool.queue).sample(nodes, len(nodes))


def _acquire(pool: Pool, node: Node) -> bytes:
    offer = common_pb2.Requirements(
        memory_bytes=16_000_000_000,
        cores=8,
        disk_bytes=200_000_000_000 + node.number * 1_000_003,
        wall_time=Duration(seconds=345_600),
    )
    return dispatcher_pb2.AcquireJobsRequest(
        pilot_id=pilot_id(pool, node.number),
        request_id=_REQUEST_ID,
        max_jobs=1,
        offer=offer,
        cache=_cache(node),
    ).SerializeToString()


def _around_request_id(message: bytes) -> tuple[bytes, bytes]:
    head, found, tail = message.partition(_REQUEST_ID.encode())
    if not found:
        raise BenchError("the request has no place for its number")
    return head, tail


def _cache(node: Node) -> filecatalog_pb2.CacheState:
    state = node.state
    return filecatalog_pb2.CacheState(
        epoch=state.epoch, sequence=state.sequence, digest=state.digest
    )


def contacts(pool: Pool, nodes: Sequence[Node]) -> Iterator[bytes]:
    """One heartbeat of each pilot, without jobs."""
    for node in nodes:
        yield dispatcher_pb2.RenewLeasesRequest(
            pilot_id=pilot_id(pool, node.number), cache=_cache(node)
        ).SerializeToString()


def renewals(pool: Pool, nodes: Sequence[Node]) -> Iterator[bytes]:
    """An endless sequence of heartbeats of the pilots with leased jobs, each with all of its leases."""
    messages = [
        dispatcher_pb2.RenewLeasesRequest(
            pilot_id=pilot_id(pool, number),
            renewals=[_renewal(job) for _, job in held],
            cache=_cache(nodes[number]),
        ).SerializeToString()
        for number, held in groupby(pool.leased_jobs(), key=itemgetter(0))
    ]
    return cycle(messages)


def _renewal(job: BenchJob) -> dispatcher_pb2.LeaseRenewal:
    return dispatcher_pb2.LeaseRenewal(
        lease=_lease(job), phase=common_pb2.PHASE_PAYLOAD, resource_use=_use()
    )


def _lease(job: BenchJob) -> report_pb2.LeaseRef:
    return report_pb2.LeaseRef(job_id=job_id(job), attempt=1, lease_token=lease_token(job))


def _use() -> common_pb2.ResourceUse:
    return common_pb2.ResourceUse(
        cpu_seconds=2400.5, max_rss_bytes=1_900_000_000, work_dir_bytes=3_000_000_000
    )


def reports(pool: Pool) -> Iterator[bytes]:
    """One report of each leased job: finished, with its outputs."""
    # Consecutive reports are of different pilots, because a pilot waits for each answer.
    jobs = sorted(pool.leased_jobs(), key=lambda held: held[1].number % LEASES_PER_PILOT)
    for number, job in jobs:
        yield report_pb2.ReportJobsRequest(
            pilot_id=pilot_id(pool, number), reports=[_report(job)]
        ).SerializeToString()


def _report(job: BenchJob) -> report_pb2.JobReport:
    index = job.number % JOBS_PER_TASK + 1
    name = dataset_name(job.task)
    return report_pb2.JobReport(
        lease=_lease(job),
        outcome=report_pb2.OUTCOME_FINISHED,
        exit_code=0,
        outputs=[
            _stored(job, f"{name}.{job.task + 1}._{index:06d}.{output}") for output in OUTPUTS
        ],
        log=_stored(job, f"{name}.job{job_id(job)}.1.log.tar.gz"),
        resource_use=_use(),
        input_bytes=job.input_bytes,
        bytes_from_cache=job.input_bytes // 2,
        phase_times=[
            common_pb2.PhaseTime(phase=phase, duration=Duration(seconds=seconds))
            for phase, seconds in (
                (common_pb2.PHASE_STAGE_IN, 60),
                (common_pb2.PHASE_PAYLOAD, 2400),
                (common_pb2.PHASE_STAGE_OUT, 20),
            )
        ],
    )


def _stored(job: BenchJob, lfn: str) -> report_pb2.StoredFile:
    return report_pb2.StoredFile(
        file=common_pb2.File(lfn=lfn, size_bytes=20_000_000, checksum="adler32:12345678"),
        url=f"{output_url(job.task)}/{lfn}",
    )


def additions(nodes: Sequence[Node]) -> Iterator[bytes]:
    """An endless sequence of deltas of one node after the other, with the files that a job has just staged."""
    for round_number in count():
        added = list(_new_files(round_number))
        for node in nodes:
            yield filecatalog_pb2.AddFilesRequest(
                site=SITE,
                node=node.name,
                epoch=node.state.epoch,
                sequence=node.state.sequence + 1 + round_number,
                files=added[node.number % len(added)],
            ).SerializeToString()


def _new_files(round_number: int) -> Iterator[list[common_pb2.File]]:
    files = dataset(_NEW_DATASETS + round_number)
    for start in range(0, len(files) - FILES_PER_CALL, FILES_PER_CALL):
        yield [_file(file) for file in files[start : start + FILES_PER_CALL]]


def _file(file: BenchFile) -> common_pb2.File:
    return common_pb2.File(
        lfn=file.lfn,
        scope=SCOPE,
        guid=file.guid,
        size_bytes=file.size_bytes,
        checksum=file.checksum,
        version=file.version,
    )


def checks(nodes: Sequence[Node], datasets: int) -> Iterator[bytes]:
    """An endless sequence of checks of one node after the other, for files of which it holds half."""
    missing = dataset(_NEW_DATASETS - 1)[: FILES_PER_CALL // 2]
    for node in cycle(nodes):
        place = groups_of(node.number, datasets)[0]
        asked = [*group(*place)[: FILES_PER_CALL - len(missing)], *missing]
        yield lookup_pb2.CheckFilesRequest(
            site=SITE, node=node.name, files=_refs(asked)
        ).SerializeToString()


def _refs(files: Iterable[BenchFile]) -> list[common_pb2.FileRef]:
    return [common_pb2.FileRef(lfn=file.lfn, scope=SCOPE, version=file.version) for file in files]
