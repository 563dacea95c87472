"""The place of a benchmark: a database and a catalog, filled, and a server in front of them, warm."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from pandawn.dispatcher.v1 import dispatcher_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2
from pandawn.type.v1 import type_pb2
from pandawn_tools.bench import workload
from pandawn_tools.bench.fill import Node, Pool, fill_catalog, fill_database
from pandawn_tools.bench.load import Generator, Shape, Target
from pandawn_tools.bench.messages import (
    ACQUIRE,
    LOCATE_FILES,
    RENEW,
    SET_RESPONSE,
    acquire_requests,
    contact_requests,
)
from pandawn_tools.bench.processes import LOOPBACK, BenchError
from pandawn_tools.bench.services import Memcached, PandawnServer, Postgres, migrate

DATABASE = "bench"
_CALL_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Site:
    """All that a measurement needs. `response` is a real answer of AcquireJobs, which the limit handler gives too."""

    directory: Path
    postgres: Postgres
    memcached: Memcached
    server: PandawnServer
    pools: Sequence[Pool]
    nodes: Sequence[Node]
    response: dispatcher_pb2.AcquireJobsResponse

    def target(self, path: str) -> Target:
        """A method of the server."""
        return Target([(LOOPBACK, self.server.port)], path)


@contextmanager
def running_site(pools: Sequence[Pool], nodes: int, say: Callable[[str], None]) -> Iterator[Site]:
    """Starts and fills everything, and ends and removes it afterwards. Raises `BenchError`."""
    with ExitStack() as closing:
        directory = Path(
            closing.enter_context(tempfile.TemporaryDirectory(prefix="pandawn-bench-"))
        )
        # PostgreSQL runs as another user.
        directory.chmod(0o755)
        say("starting PostgreSQL and memcached")
        (directory / "postgres").mkdir()
        postgres = Postgres(directory / "postgres")
        closing.callback(postgres.process.stop)
        memcached = Memcached(directory)
        closing.callback(memcached.process.stop)
        postgres.create(DATABASE)
        migrate(directory, postgres.url(DATABASE))
        say(f"filling the catalog with {nodes:,} nodes of {workload.FILES_PER_NODE} files")
        datasets = 1 + max(workload.dataset_of(pool.tasks[-1]) for pool in pools)
        known = fill_catalog(memcached.port, nodes, datasets)
        jobs = sum(pool.depth + pool.reserve for pool in pools)
        say(f"filling the database with {jobs:,} jobs")
        with postgres.connect(DATABASE) as connection:
            fill_database(connection, pools, nodes)
        say("starting the server")
        server = PandawnServer(directory, postgres.url(DATABASE), memcached.url)
        closing.callback(server.process.stop)
        say("warming it up: each node makes contact")
        _warm_up(server, pools, known)
        yield Site(
            directory, postgres, memcached, server, pools, known, _sample(server, pools[0], known)
        )


def _warm_up(server: PandawnServer, pools: Sequence[Pool], nodes: Sequence[Node]) -> None:
    """Lets the server hear of each node once and read what each holds, as it has after an hour's work."""
    with grpc.insecure_channel(server.address) as channel:
        locate = channel.unary_unary(
            LOCATE_FILES,
            request_serializer=filecatalog_pb2.LocateFilesRequest.SerializeToString,
            response_deserializer=filecatalog_pb2.LocateFilesResponse.FromString,
        )
        file = workload.hot_files()[0]
        request = filecatalog_pb2.LocateFilesRequest(
            site=workload.SITE, files=[type_pb2.FileRef(lfn=file.lfn, scope=workload.SCOPE)]
        )
        found = locate(request, timeout=_CALL_TIMEOUT_S).locations[0].nodes
        if len(found) != len(nodes):
            raise BenchError(f"the catalog knows {len(found)} of {len(nodes)} nodes")
    for pool in pools:
        source = contact_requests(pool, nodes)
        target = Target([(LOOPBACK, server.port)], RENEW)
        load = Generator(target, Shape(4, 64, 0.0, _CALL_TIMEOUT_S), source).run()
        if load.total_ok != len(nodes):
            raise BenchError(f"heartbeats were refused: {dict(load.statuses)}")


def _sample(
    server: PandawnServer, pool: Pool, nodes: Sequence[Node]
) -> dispatcher_pb2.AcquireJobsResponse:
    """A typical response of AcquireJobs, which the limit handler is told to give from now on."""
    source = acquire_requests(pool, nodes)
    with grpc.insecure_channel(server.address) as channel:
        acquire = channel.unary_unary(
            ACQUIRE,
            request_serializer=bytes,
            response_deserializer=dispatcher_pb2.AcquireJobsResponse.FromString,
        )
        found = sorted(
            (acquire(next(source), timeout=_CALL_TIMEOUT_S) for _ in range(9)),
            key=lambda response: response.ByteSize(),
        )
        typical = found[len(found) // 2]
        if not typical.leases or not found[0].leases:
            raise BenchError(f"the server gave no job: {found[0]}")
        set_response = channel.unary_unary(
            SET_RESPONSE,
            request_serializer=dispatcher_pb2.AcquireJobsResponse.SerializeToString,
            response_deserializer=dispatcher_pb2.AcquireJobsResponse.FromString,
        )
        set_response(typical, timeout=_CALL_TIMEOUT_S)
    return typical
