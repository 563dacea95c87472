"""Requests of pilots, encoded ahead: what differs from call to call is put between constant pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count, cycle

from google.protobuf.duration_pb2 import Duration

from pandawn.dispatcher.v1 import dispatcher_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2
from pandawn.type.v1 import type_pb2
from pandawn_tools.bench.fill import Node, Pool, pilot_id
from pandawn_tools.bench.processes import BenchError

ACQUIRE = "/pandawn.dispatcher.v1.Dispatcher/AcquireJobs"
RENEW = "/pandawn.dispatcher.v1.Dispatcher/RenewLeases"
REPORT = "/pandawn.dispatcher.v1.Dispatcher/ReportJobs"
ADD_FILES = "/pandawn.filecatalog.v1.FileCatalog/AddFiles"
CHECK_FILES = "/pandawn.filecatalog.v1.FileCatalog/CheckFiles"
LOCATE_FILES = "/pandawn.filecatalog.v1.FileCatalog/LocateFiles"
EMPTY = "/pandawn.bench.v1.Limit/Empty"
SET_RESPONSE = "/pandawn.bench.v1.Limit/SetResponse"

_REQUEST_ID = "request-id-to-be-put-in-its-place"[:32]

_request_numbers = count(1)
"""Never the same twice in a process, so that no request is taken for a repeated one."""

_run = f"{random.SystemRandom().getrandbits(64):016x}".encode()


def acquire_requests(pool: Pool, nodes: Sequence[Node], max_jobs: int = 1) -> Iterator[bytes]:
    """Makes the requests of one pilot after the other, in a random order of the nodes."""
    shuffled = random.Random(pool.queue).sample(nodes, len(nodes))
    pieces = [_around_request_id(_acquire(pool, node, max_jobs)) for node in shuffled]
    for head, tail in cycle(pieces):
        yield b"%b%b%016x%b" % (head, _run, next(_request_numbers), tail)


def _acquire(pool: Pool, node: Node, max_jobs: int) -> bytes:
    offer = type_pb2.Requirements(
        memory_bytes=16_000_000_000,
        cores=8,
        disk_bytes=200_000_000_000 + node.number * 1_000_003,
        wall_time=Duration(seconds=345_600),
    )
    return dispatcher_pb2.AcquireJobsRequest(
        pilot_id=pilot_id(pool, node.number),
        request_id=_REQUEST_ID,
        max_jobs=max_jobs,
        offer=offer,
        cache=_cache(node),
    ).SerializeToString()


def _around_request_id(message: bytes) -> tuple[bytes, bytes]:
    head, found, tail = message.partition(_REQUEST_ID.encode())
    if not found:
        raise BenchError("the request has no place for its id")
    return head, tail


def _cache(node: Node) -> filecatalog_pb2.CacheState:
    state = node.state
    return filecatalog_pb2.CacheState(
        epoch=state.epoch, sequence=state.sequence, digest=state.digest
    )


def contact_requests(pool: Pool, nodes: Sequence[Node]) -> Iterator[bytes]:
    """One heartbeat of each pilot, without jobs."""
    for node in nodes:
        yield dispatcher_pb2.RenewLeasesRequest(
            pilot_id=pilot_id(pool, node.number), cache=_cache(node)
        ).SerializeToString()
