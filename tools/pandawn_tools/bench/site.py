"""The site of a benchmark: a filled database and catalog, and a warmed-up server."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from google.protobuf.duration_pb2 import Duration

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2
from pandawn.filecatalog.v1 import lookup_pb2
from pandawn.queueconfig.v1 import document_pb2, parameters_pb2, queueconfig_pb2_grpc
from pandawn_client.channel import open_channel
from pandawn_server.storage.access import session_keys
from pandawn_server.storage.database import Database
from pandawn_server.usecases.access.session_book import Sessions
from pandawn_tools.bench.databases import BenchDatabase, PostgresDatabase, SqliteDatabase
from pandawn_tools.bench.inventories import Node, fill_catalog
from pandawn_tools.bench.load import Generator, Shape, Target
from pandawn_tools.bench.measure import IDLE_WATCHER
from pandawn_tools.bench.messages import (
    ACQUIRE,
    LOCATE_FILES,
    RENEW,
    SET_RESPONSE,
    acquire_requests,
    contacts,
)
from pandawn_tools.bench.processes import LOOPBACK, BenchError, cpu_seconds
from pandawn_tools.bench.rows import LEASE_S, Pool, dataset_count, locality_wait_s, tables
from pandawn_tools.bench.services import Memcached, PandawnServer, Postgres
from pandawn_tools.bench.workload import FILES_PER_NODE, SCOPE, SITE, hot_files

Engine = Literal["postgres", "sqlite"]
Say = Callable[[str], None]

_CALL_TIMEOUT_S = 300.0
_WARM_UP = Shape(connections=4, streams=64, warm_s=0.0, measure_s=_CALL_TIMEOUT_S)
_SAMPLES = 9
_SETTLE_S = 900.0
_LOOK_S = 0.5
_QUIET_LOOKS = 4
"""The server checks once a second for more to read."""
_IDLE_CPU = 0.15
"""The largest CPU time that a server without callers uses in a second, in seconds."""


@dataclass(frozen=True, slots=True)
class World:
    """The content of a site: pools of waiting jobs by depth, one pool of leased jobs, and nodes."""

    waiting: Sequence[Pool]
    leased: Pool
    nodes: int

    @property
    def pools(self) -> list[Pool]:
        """All pools."""
        return [*self.waiting, self.leased]

    @property
    def datasets(self) -> int:
        """Number of datasets."""
        return dataset_count(self.pools)


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that a measurement needs. `postgres` is None with the embedded database."""

    directory: Path
    postgres: Postgres | None
    memcached: Memcached
    database: BenchDatabase
    server: PandawnServer
    world: World
    nodes: Sequence[Node]
    sessions: Sessions

    def target(self, path: str) -> Target:
        """A method of the server."""
        return Target([(LOOPBACK, self.server.port)], path)


@contextmanager
def running_site(engine: Engine, world: World, say: Say) -> Iterator[Site]:
    """Starts and fills everything; stops and removes it at the end. Raises `BenchError`."""
    with ExitStack() as closing:
        temporary = tempfile.TemporaryDirectory(prefix="pandawn-bench-")
        directory = Path(closing.enter_context(temporary))
        # PostgreSQL runs as another user.
        directory.chmod(0o755)
        say("starting what the server needs")
        memcached = Memcached(directory)
        closing.callback(memcached.process.stop)
        postgres = None
        database: BenchDatabase
        if engine == "postgres":
            (directory / "postgres").mkdir()
            postgres = Postgres(directory / "postgres")
            closing.callback(postgres.process.stop)
            postgres.create("bench")
            database = PostgresDatabase(postgres, "bench")
        else:
            database = SqliteDatabase(directory / "bench.db")
        closing.callback(database.close)
        _migrate(database.url)
        nodes = _fill(database, memcached, world, say)
        say("starting the server")
        server = PandawnServer(directory, database.url, memcached.url)
        closing.callback(server.process.stop)
        _configure(server, world)
        say("warming it up: each node makes contact")
        _warm_up(server, world, nodes)
        _set_response(server, world.waiting[0], nodes)
        say("waiting until it has read all that waits")
        _settle(server, world, nodes)
        sessions = _sessions(database.url)
        yield Site(directory, postgres, memcached, database, server, world, nodes, sessions)


def _sessions(url: str) -> Sessions:
    """Issues sessions for pilots that never registered, with the server's own keys."""
    database = Database.open(url, pool_size=1)
    sessions = Sessions()
    with database.read() as tx:
        sessions.take_keys(session_keys.all_keys(tx))
    database.dispose()
    return sessions


def _migrate(url: str) -> None:
    database = Database.open(url, pool_size=1)
    database.migrate()
    database.dispose()


def _fill(database: BenchDatabase, memcached: Memcached, world: World, say: Say) -> list[Node]:
    jobs = sum(pool.depth + pool.reserve + pool.leased for pool in world.pools)
    say(f"filling in {jobs:,} jobs, and {world.nodes:,} nodes of {FILES_PER_NODE} files")
    # In two processes, because both are busy in Python; spawned, because gRPC's threads do not survive a fork.
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        filling = executor.submit(fill_catalog, memcached.port, world.nodes, world.datasets)
        database.fill(tables(world.pools, world.nodes, datetime.now(UTC)))
        return filling.result()


def _configure(server: PandawnServer, world: World) -> None:
    """Creates the queues, like an administrator."""
    with closing(open_channel(server.address)[0]) as channel:
        queues = queueconfig_pb2_grpc.QueueConfigStub(channel)
        for pool in world.pools:
            parameters = parameters_pb2.QueueParameters(
                site=SITE,
                status=parameters_pb2.QUEUE_STATUS_ONLINE,
                storage_root="file:///atlas/user",
                lease_duration=Duration(seconds=int(LEASE_S)),
                locality_wait=Duration(seconds=int(locality_wait_s(pool.depth, world.nodes))),
            )
            change = document_pb2.DocumentChange(
                kind=document_pb2.DOCUMENT_KIND_QUEUE, name=pool.queue, parameters=parameters
            )
            queues.ApplyConfig(
                document_pb2.ApplyConfigRequest(changes=[change]), timeout=_CALL_TIMEOUT_S
            )


def _warm_up(server: PandawnServer, world: World, nodes: Sequence[Node]) -> None:
    """Makes the server read the files of each node, and get a contact of each, as after an hour's work."""
    with closing(open_channel(server.address)[0]) as channel:
        locate = channel.unary_unary(
            LOCATE_FILES,
            request_serializer=lookup_pb2.LocateFilesRequest.SerializeToString,
            response_deserializer=lookup_pb2.LocateFilesResponse.FromString,
        )
        asked = common_pb2.FileRef(lfn=hot_files()[0].lfn, scope=SCOPE)
        request = lookup_pb2.LocateFilesRequest(site=SITE, files=[asked])
        found = locate(request, timeout=_CALL_TIMEOUT_S).locations[0].nodes
    if len(found) != len(nodes):
        raise BenchError(f"the catalog knows {len(found)} of {len(nodes)} nodes")
    target = Target([(LOOPBACK, server.port)], RENEW)
    load = Generator(target, _WARM_UP, contacts(world.waiting[0], nodes), IDLE_WATCHER).run()
    if load.total_ok != len(nodes):
        raise BenchError(f"heartbeats were refused, by gRPC status: {dict(load.statuses)}")


def _settle(server: PandawnServer, world: World, nodes: Sequence[Node]) -> None:
    """Starts each queue with one call, and waits until the server has read everything."""
    with closing(open_channel(server.address)[0]) as channel:
        acquire = channel.unary_unary(
            ACQUIRE,
            request_serializer=bytes,
            response_deserializer=dispatcher_pb2.AcquireJobsResponse.FromString,
        )
        for pool in world.waiting:
            acquire(next(acquire_requests(pool, nodes)), timeout=_CALL_TIMEOUT_S)
    end = time.monotonic() + _SETTLE_S
    quiet = 0
    while quiet < _QUIET_LOOKS:
        if time.monotonic() > end:
            raise BenchError(f"the server was still reading after {_SETTLE_S:.0f} s")
        before = cpu_seconds(server.process.pid)
        time.sleep(_LOOK_S)
        used = cpu_seconds(server.process.pid) - before
        quiet = quiet + 1 if used < _IDLE_CPU * _LOOK_S else 0


def _set_response(server: PandawnServer, pool: Pool, nodes: Sequence[Node]) -> None:
    """Sets the response of the limit handler to a real one of AcquireJobs, of median size."""
    requests = acquire_requests(pool, nodes)
    with closing(open_channel(server.address)[0]) as channel:
        acquire = channel.unary_unary(
            ACQUIRE,
            request_serializer=bytes,
            response_deserializer=dispatcher_pb2.AcquireJobsResponse.FromString,
        )
        found = [acquire(next(requests), timeout=_CALL_TIMEOUT_S) for _ in range(_SAMPLES)]
        if not all(response.leases for response in found):
            raise BenchError(f"the server gave a pilot no job: {found}")
        if not all(response.leases[0].job.inputs for response in found):
            raise BenchError(f"the server gave jobs without their input files: {found}")
        if any(response.inventory_requested for response in found):
            raise BenchError("the catalog is not filled with what the caches hold")
        typical = sorted(found, key=lambda response: response.ByteSize())[_SAMPLES // 2]
        channel.unary_unary(
            SET_RESPONSE,
            request_serializer=dispatcher_pb2.AcquireJobsResponse.SerializeToString,
            response_deserializer=dispatcher_pb2.AcquireJobsResponse.FromString,
        )(typical, timeout=_CALL_TIMEOUT_S)
