"""The rows that fill a database: queues with waiting and leased jobs, nodes, pilots."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from pandawn_tools.bench.workload import (
    JOBS_PER_TASK,
    SCOPE,
    SITE,
    TASKS_AT_ONCE,
    BenchFile,
    BenchJob,
    dataset_of,
    jobs_of,
    node_name,
    priority_of,
)

LOCALITY_WAIT_S = 600.0
"""Jobs are held for nodes with more of their files, as at a site with caches."""

LEASE_S = 86_400.0
"""Leases outlive the benchmark: the reaper, which handles lapsed leases, is not measured."""

LEASES_PER_PILOT = 100
OUTPUTS = ("hist.root", "ntup.root")

_COMMAND = '["sh", "-c", "athena.py --filesInput=%IN jobOptions.py"]'
_MEMORY_BYTES = 2_000_000_000

Row = tuple[str, ...]


def locality_wait_s(depth: int, nodes: int) -> float:
    """The hold of a queue with so many waiting jobs: none if there are more nodes than jobs.

    The nodes poll in turn without waiting, and come back only after seconds. All jobs would soon be held for nodes
    that poll later, and most calls would get no job and not count.
    """
    return LOCALITY_WAIT_S if depth >= nodes else 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """A queue of the benchmark, and its jobs in this order.

    `depth` runnable ones, a `reserve` that waits to become runnable, and `leased` ones that run,
    `LEASES_PER_PILOT` on each pilot. Its tasks are numbered from `first_task`.
    """

    queue: str
    first_task: int
    depth: int = 0
    reserve: int = 0
    leased: int = 0

    def __post_init__(self) -> None:
        """Checks that the jobs fill complete tasks."""
        if (self.depth + self.reserve + self.leased) % JOBS_PER_TASK:
            raise ValueError(f"the jobs of {self.queue} do not make whole tasks")

    @property
    def tasks(self) -> range:
        """Numbers of its tasks."""
        jobs = self.depth + self.reserve + self.leased
        return range(self.first_task, self.first_task + jobs // JOBS_PER_TASK)

    @property
    def reserve_ids(self) -> range:
        """Identifiers of the jobs in reserve."""
        first = self.first_task * JOBS_PER_TASK + 1 + self.depth
        return range(first, first + self.reserve)

    def jobs(self, task: int) -> tuple[BenchJob, ...]:
        """The jobs of one of its tasks. Each queue starts with the first dataset."""
        return jobs_of(task, dataset_of(task - self.first_task))

    def state_of(self, job: BenchJob) -> str:
        """State of one of its jobs."""
        position = job.number - self.first_task * JOBS_PER_TASK
        if position < self.depth:
            return "activated"
        return "waiting" if position < self.depth + self.reserve else "running"

    def leased_jobs(self) -> Iterator[tuple[int, BenchJob]]:
        """The leased jobs, each with the number of the node whose pilot has it."""
        first = self.first_task * JOBS_PER_TASK + self.depth + self.reserve
        for task in self.tasks:
            for job in self.jobs(task):
                if job.number >= first:
                    yield (job.number - first) // LEASES_PER_PILOT, job


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for a table; times are in UTC without zone, truth is 0 or 1."""

    name: str
    columns: tuple[str, ...]
    rows: Iterable[Row]


def job_id(job: BenchJob) -> int:
    """Identifier of a job."""
    return job.number + 1


def lease_token(job: BenchJob) -> str:
    """Token of the lease of a job that is leased from the beginning."""
    return f"{job.number:032x}"


def pilot_id(pool: Pool, node: int) -> str:
    """Identifier of the pilot of a queue on a node."""
    return f"{pool.first_task:08x}{node:024x}"


def dataset_name(task: int) -> str:
    """Output dataset of a task."""
    return f"user.{_user(task)}.{task:08d}.susy.v1"


def output_url(task: int) -> str:
    """Directory of its outputs."""
    return f"file:///atlas/user/2026/{_user(task)}/{dataset_name(task)}"


def dataset_count(pools: Sequence[Pool]) -> int:
    """Number of datasets that the tasks of all pools walk."""
    return 1 + max(dataset_of(len(pool.tasks) - 1) for pool in pools)


def _user(task: int) -> str:
    return f"user{task % 97:02d}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def tables(pools: Sequence[Pool], nodes: int, now: datetime) -> Iterator[Table]:
    """All tables, each before those that refer to it."""
    contact = _time(now)
    yield Table(
        "nodes",
        ("site", "node", "contact_time"),
        ((SITE, node_name(node), contact) for node in range(nodes)),
    )
    for pool in pools:
        yield Table("pilots", _PILOT, _pilots(pool, nodes, contact))
        yield Table("tasks", _TASK, _tasks(pool, contact))
        # Jobs and their files alternate, so that each job is computed only once.
        for first in range(pool.tasks.start, pool.tasks.stop, TASKS_AT_ONCE):
            tasks = range(first, min(first + TASKS_AT_ONCE, pool.tasks.stop))
            yield Table("jobs", _JOB, _jobs(pool, tasks, now))
            yield Table("job_inputs", ("job_id", "files"), _inputs(pool, tasks))
        if pool.leased:
            yield Table("attempts", _ATTEMPT, _attempts(pool, contact))
            expire = _time(now + timedelta(seconds=LEASE_S))
            yield Table("leases", _LEASE, _leases(pool, expire))


# One line a group of columns: the rows below are laid out alike.
_TASK = (
    *("task_id", "user", "dataset", "queue", "site", "priority", "max_attempts"),
    *("files_per_job", "build", "sandbox_id", "command", "build_command", "outputs"),
    *("environment", "output_url", "named_by_task", "create_time"),
)


def _tasks(pool: Pool, now: str) -> Iterator[Row]:
    outputs = ", ".join(f'"{name}"' for name in OUTPUTS)
    for task in pool.tasks:
        yield (
            *(str(task + 1), _user(task), dataset_name(task), pool.queue, SITE),
            *(str(priority_of(task)), "3"),
            *("7", "0", "", _COMMAND, "[]", f"[{outputs}]"),
            *("{}", output_url(task), "1", now),
        )


_JOB = (
    *("job_id", "task_id", "index", "kind", "state", "user", "queue", "priority", "attempt"),
    *("max_attempts", "input_bytes", "memory_bytes", "cores", "create_time", "state_time"),
)


def _jobs(pool: Pool, tasks: range, now: datetime) -> Iterator[Row]:
    for task in tasks:
        # Submitted at some time during the last day.
        submitted = _time(now - timedelta(minutes=(task * 7919) % 1440))
        tail = (f"{_MEMORY_BYTES}", "1", submitted, submitted)
        owner = (_user(task), pool.queue, f"{priority_of(task)}")
        for index, job in enumerate(pool.jobs(task), start=1):
            state = pool.state_of(job)
            yield (
                *(f"{job_id(job)}", f"{task + 1}", f"{index}", "run", state),
                *owner,
                *("1" if state == "running" else "0", "3", f"{job.input_bytes}"),
                *tail,
            )


def _inputs(pool: Pool, tasks: range) -> Iterator[Row]:
    for task in tasks:
        for job in pool.jobs(task):
            yield f"{job_id(job)}", f"[{', '.join(map(_file, job.inputs))}]"


@lru_cache(maxsize=8192)
def _file(file: BenchFile) -> str:
    """A file in the format of `storage.files.pack`."""
    packed = [
        file.lfn,
        file.size_bytes,
        file.url,
        SCOPE,
        file.guid,
        file.checksum,
        file.version,
    ]
    return json.dumps(packed)


_PILOT = (
    *("pilot_id", "request_id", "queue", "site", "node", "host", "pilot_version", "batch_id"),
    *("transports", "state", "register_time", "contact_time"),
)


def _pilots(pool: Pool, nodes: int, now: str) -> Iterator[Row]:
    for node in range(nodes):
        identifier, name = pilot_id(pool, node), node_name(node)
        yield (
            *(
                identifier,
                f"r{identifier[1:]}",
                pool.queue,
                SITE,
                name,
                name,
                "0.1.0",
                f"{node}.ce",
            ),
            *('["file"]', "live", now, now),
        )


_ATTEMPT = (
    *("job_id", "attempt", "task_id", "pilot_id", "site", "node", "lease_token", "start_time"),
    *("locality", "rule", "match_input_bytes", "match_local_bytes", "match_candidates"),
    *("match_held", "match_waited_s"),
)


def _attempts(pool: Pool, now: str) -> Iterator[Row]:
    for node, job in pool.leased_jobs():
        yield (
            *(f"{job_id(job)}", "1", f"{job.task + 1}", pilot_id(pool, node), SITE),
            *(node_name(node), lease_token(job), now),
            *("known", "age", f"{job.input_bytes}", "0", "200"),
            *("0", "60.0"),
        )


_LEASE = (
    *("job_id", "attempt", "token", "pilot_id", "site", "node", "request_id", "ordinal"),
    *("expire_time", "duration_s", "phase"),
)


def _leases(pool: Pool, expire: str) -> Iterator[Row]:
    for node, job in pool.leased_jobs():
        yield (
            *(f"{job_id(job)}", "1", lease_token(job), pilot_id(pool, node), SITE, node_name(node)),
            *(f"fill-{job.number}", "0"),
            *(expire, f"{LEASE_S}", "payload"),
        )
