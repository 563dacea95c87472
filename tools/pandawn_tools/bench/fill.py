"""Fills the database with jobs by COPY, and the catalog with what 10,000 nodes hold by the server's own code."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache

import psycopg

from pandawn_server.catalog.codec import Head, Record, encode_head, encode_part, encode_records
from pandawn_server.catalog.draft import random_id
from pandawn_server.catalog.member import Timeouts
from pandawn_server.catalog.memcached import MemcachedStore
from pandawn_server.catalog.store import Stored, part_key, route_of
from pandawn_server.domain.inventory import CacheState, NodeKey, file_digest
from pandawn_tools.bench import workload
from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.workload import SCOPE, SITE, BenchFile, BenchJob

LOCALITY_WAIT_S = 600.0
LEASE_S = 86_400.0
"""Leases outlive the benchmark: what lapses is the reaper's work, and not what is measured."""

_SILENCE = timedelta(hours=24)
_TIMEOUTS = Timeouts(connect=timedelta(seconds=2), answer=timedelta(seconds=10))
_ROUTES_AT_ONCE = 500

_COMMAND = '["sh", "-c", "athena.py --filesInput=%IN jobOptions.py"]'
_OUTPUTS = '["hist.root", "ntup.root"]'


@dataclass(frozen=True, slots=True)
class Pool:
    """A queue of the benchmark with its jobs: `depth` runnable ones, and a reserve that waits."""

    queue: str
    depth: int
    reserve: int
    first_task: int

    @property
    def tasks(self) -> range:
        """Numbers of its tasks."""
        count = -(-(self.depth + self.reserve) // workload.JOBS_PER_TASK)
        return range(self.first_task, self.first_task + count)

    def reserve_ids(self) -> range:
        """Identifiers of the jobs in reserve."""
        first = self.first_task * workload.JOBS_PER_TASK + 1
        return range(first + self.depth, first + self.depth + self.reserve)


@dataclass(frozen=True, slots=True)
class Node:
    """A node as its own cache sees it."""

    number: int
    name: str
    state: CacheState


def pilot_id(pool: Pool, node: int) -> str:
    """Identifier of the pilot of a queue on a node."""
    return f"{pool.first_task:08x}{node:024x}"


def fill_database(connection: psycopg.Connection, pools: Sequence[Pool], nodes: int) -> int:
    """Writes queues, tasks, jobs with their files, nodes and pilots; returns the number of job files."""
    now = datetime.now(UTC)
    with connection.transaction(), connection.cursor() as cursor:
        # What is written here is consistent; one query for each foreign key would take minutes.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for pool in pools:
            _copy(cursor, "queues", _QUEUE_COLUMNS, [_queue_row(pool, now)])
            _copy(cursor, "tasks", _TASK_COLUMNS, (_task_row(pool, t, now) for t in pool.tasks))
            _copy(cursor, "jobs", _JOB_COLUMNS, _job_rows(pool, now))
            _copy(cursor, "pilots", _PILOT_COLUMNS, _pilot_rows(pool, nodes, now))
        _copy(
            cursor,
            "nodes",
            ("site", "node", "contact_time"),
            (f"{SITE}\t{workload.node_name(n)}\t{now.isoformat()}\n" for n in range(nodes)),
        )
        counts = [_copy(cursor, "job_files", _FILE_COLUMNS, _file_rows(pool)) for pool in pools]
        for table, column in (("tasks", "task_id"), ("jobs", "job_id")):
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), max({column})) FROM {table}"
            )
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")
    return sum(counts)


def _copy(cursor: psycopg.Cursor, table: str, columns: Sequence[str], lines: Iterable[str]) -> int:
    names = ", ".join(f'"{column}"' for column in columns)
    with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for chunk in _chunks(lines):
            copy.write(chunk)
    return cursor.rowcount


def _chunks(lines: Iterable[str], size: int = 2000) -> Iterator[str]:
    some: list[str] = []
    for line in lines:
        some.append(line)
        if len(some) == size:
            yield "".join(some)
            some.clear()
    yield "".join(some)


_QUEUE_COLUMNS = [
    "name",
    "site",
    "status",
    "storage_root",
    "lease_duration_s",
    "locality_wait_s",
    "etag",
    "update_time",
]


def _queue_row(pool: Pool, now: datetime) -> str:
    return (
        f"{pool.queue}\t{SITE}\tonline\tfile:///atlas/user\t{LEASE_S}\t{LOCALITY_WAIT_S}\t"
        f"1\t{now.isoformat()}\n"
    )


_TASK_COLUMNS = [
    "task_id",
    "user",
    "dataset",
    "queue",
    "site",
    "priority",
    "max_attempts",
    "files_per_job",
    "build",
    "sandbox_id",
    "command",
    "build_command",
    "outputs",
    "environment",
    "output_url",
    "create_time",
]


def _task_row(pool: Pool, task: int, now: datetime) -> str:
    user = f"user{task % 97:02d}"
    dataset = f"user.{user}.{task:08d}.susy.v1"
    return (
        f"{task + 1}\t{user}\t{dataset}\t{pool.queue}\t{SITE}\t{workload.priority_of(task)}\t3\t7\tf\t\t"
        f"{_COMMAND}\t[]\t{_OUTPUTS}\t{{}}\tfile:///atlas/user/2026/{user}/{dataset}\t{now.isoformat()}\n"
    )


_JOB_COLUMNS = [
    "job_id",
    "task_id",
    "index",
    "kind",
    "state",
    "user",
    "queue",
    "priority",
    "max_attempts",
    "input_bytes",
    "memory_bytes",
    "cores",
    "create_time",
    "state_time",
]


def _job_rows(pool: Pool, now: datetime) -> Iterator[str]:
    left = pool.depth
    for task in pool.tasks:
        submitted = now - timedelta(minutes=(task * 7919) % 1440)
        tail = f"2000000000\t1\t{submitted.isoformat()}\t{submitted.isoformat()}\n"
        head = f"user{task % 97:02d}\t{pool.queue}\t{workload.priority_of(task)}\t3"
        for job in workload.jobs_of(task):
            state = "activated" if left > 0 else "waiting"
            left -= 1
            yield (
                f"{job.number + 1}\t{task + 1}\t{job.number % workload.JOBS_PER_TASK + 1}\trun\t{state}\t"
                f"{head}\t{job.input_bytes}\t{tail}"
            )


_FILE_COLUMNS = [
    "job_id",
    "role",
    "position",
    "scope",
    "lfn",
    "guid",
    "size_bytes",
    "checksum",
    "url",
]


def _file_rows(pool: Pool) -> Iterator[str]:
    for task in pool.tasks:
        for job in workload.jobs_of(task):
            yield _rows_of_job(job)


def _rows_of_job(job: BenchJob) -> str:
    return "".join(
        [
            f"{job.number + 1}\tinput\t{position}{_file_tail(file)}"
            for position, file in enumerate(job.inputs)
        ]
    )


@lru_cache(maxsize=4 * workload.FILES_PER_DATASET)
def _file_tail(file: BenchFile) -> str:
    return f"\t{SCOPE}\t{file.lfn}\t{file.guid}\t{file.size_bytes}\t{file.checksum}\t{file.url}\n"


_PILOT_COLUMNS = [
    "pilot_id",
    "request_id",
    "queue",
    "site",
    "node",
    "host",
    "pilot_version",
    "batch_id",
    "transports",
    "state",
    "register_time",
    "contact_time",
]


def _pilot_rows(pool: Pool, nodes: int, now: datetime) -> Iterator[str]:
    for node in range(nodes):
        identifier, name = pilot_id(pool, node), workload.node_name(node)
        yield (
            f"{identifier}\tr{identifier[1:]}\t{pool.queue}\t{SITE}\t{name}\t{name}\t0.1.0\t{node}.ce\t"
            f'["file"]\tlive\t{now.isoformat()}\t{now.isoformat()}\n'
        )


@dataclass(frozen=True, slots=True)
class _Group:
    part_id: int
    value: bytes
    digest: int
    files: int
    total_bytes: int


@cache
def _group(dataset: int, variant: int) -> _Group:
    return _encoded(workload.group(dataset, variant))


@cache
def _hot() -> _Group:
    return _encoded(workload.hot_files()[: workload.HOT_PER_NODE])


def _encoded(files: Sequence[BenchFile]) -> _Group:
    # One part is packed once and stored for all the nodes that hold the same files: keys of parts
    # begin with the node, so its id need not differ.
    part_id = random_id()
    records = [Record(SCOPE, file.lfn, file.guid, file.size_bytes) for file in files]
    digest = 0
    for file in files:
        digest ^= file_digest(SCOPE, file.lfn, file.size_bytes)
    return _Group(
        part_id,
        encode_part(part_id, encode_records(records)),
        digest,
        len(files),
        sum(file.size_bytes for file in files),
    )


def fill_catalog(port: int, nodes: int, datasets: int) -> list[Node]:
    """Writes what each node holds, as a few parts that deltas left; returns the nodes."""
    now = datetime.now(UTC)
    store = MemcachedStore([("127.0.0.1", port)], _SILENCE, _TIMEOUTS)
    written = []
    try:
        for start in range(0, nodes, _ROUTES_AT_ONCE):
            numbers = range(start, min(nodes, start + _ROUTES_AT_ONCE))
            keys = {n: NodeKey(SITE, workload.node_name(n)) for n in numbers}
            routes = {n: route_of(key) for n, key in keys.items()}
            slots = store.open_heads(list(routes.values()))
            for n in numbers:
                held = [_hot(), *(_group(*g) for g in workload.groups_of(n, datasets))]
                head = _head(keys[n], held, now)
                token = slots[routes[n]].token
                parts = {part_key(routes[n], group.part_id): group.value for group in held}
                for stored in (
                    store.write_parts(routes[n], token, parts),
                    store.write_head(routes[n], token, encode_head(head)),
                ):
                    if stored is not Stored.DONE:
                        raise BenchError(f"memcached did not take node {n}: {stored}")
                written.append(Node(n, keys[n].node, head.state))
    finally:
        store.close()
    return written


def _head(key: NodeKey, held: Sequence[_Group], now: datetime) -> Head:
    digest = 0
    for group in held:
        digest ^= group.digest
    files = sum(group.files for group in held)
    return Head(
        key=key,
        lineage=random_id(),
        state=CacheState(1 + secrets.randbelow(2**63), len(held), digest),
        update_time=now,
        file_count=files,
        total_bytes=sum(group.total_bytes for group in held),
        part_records=files,
        appended=len(held),
        parts=tuple(group.part_id for group in held),
        tail=encode_records(()),
    )
