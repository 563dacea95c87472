"""Job queues for Python on the same PostgreSQL, taking jobs that do nothing, for orientation.

Each runs as one process, as its documentation says that it is fast, on a database of its own:
`python -m pandawn_tools.bench.peers NAME DSN JOBS` prints the jobs a second that it took and ended.
What they do is less: no choice by locality, no leases over a network, no explanation.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.services import Postgres

_TIMEOUT_S = 120.0
_BATCH = 100
"""Jobs that pgqueuer takes at a time; its guide says more than 10 where jobs are short."""

_WORKERS = 2
"""Consumers of pgqueuer in its process; more do not help on two cores."""

_CONCURRENCY = 30
"""Jobs that a worker of procrastinate runs at a time."""


@dataclass(frozen=True, slots=True)
class Peers:
    """Jobs a second of each; None where a peer is not installed."""

    pgqueuer: float | None
    procrastinate: float | None


def measure_peers(server: Postgres, jobs: int) -> Peers:
    """Lets each peer empty a queue of `jobs`. Raises `BenchError` if one fails."""
    return Peers(
        _run(server, "pgqueuer", ("pgqueuer", "asyncpg"), jobs),
        _run(server, "procrastinate", ("procrastinate",), jobs),
    )


def _run(server: Postgres, name: str, packages: tuple[str, ...], jobs: int) -> float | None:
    if not all(importlib.util.find_spec(package) for package in packages):
        return None
    server.create(name)
    try:
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name, name, server.dsn(name), str(jobs)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{name} did not end {jobs} jobs in {_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise BenchError(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


async def _pgqueuer(dsn: str, jobs: int) -> float:
    import asyncpg
    from pgqueuer import AsyncpgDriver, PgQueuer, Queries
    from pgqueuer.models import Job
    from pgqueuer.types import QueueExecutionMode

    async def driver() -> AsyncpgDriver:
        return AsyncpgDriver(await asyncpg.connect(dsn))

    queries = Queries(await driver())
    await queries.install()
    await queries.optimize_autovacuum()
    await queries.enqueue(["noop"] * jobs, [b"x" * 100] * jobs, [0] * jobs)
    taken = 0

    async def consume() -> None:
        manager = PgQueuer(await driver())

        @manager.entrypoint("noop")
        async def noop(job: Job) -> None:
            nonlocal taken
            del job
            taken += 1

        await manager.run(batch_size=_BATCH, mode=QueueExecutionMode.drain)

    begin = time.perf_counter()
    await asyncio.gather(*(consume() for _ in range(_WORKERS)))
    return taken / (time.perf_counter() - begin)


async def _procrastinate(dsn: str, jobs: int) -> float:
    import procrastinate
    import procrastinate.types

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, max_size=8))
    taken = 0

    @app.task(name="noop")
    async def noop(text: str) -> None:
        nonlocal taken
        del text
        taken += 1

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        arguments: procrastinate.types.JSONDict = {"text": "x" * 100}
        await noop.batch_defer_async(*[arguments] * jobs)
        begin = time.perf_counter()
        await app.run_worker_async(
            wait=False, concurrency=_CONCURRENCY, listen_notify=False, install_signal_handlers=False
        )
        return taken / (time.perf_counter() - begin)


_PEERS: Mapping[str, Callable[[str, int], Awaitable[float]]] = {
    "pgqueuer": _pgqueuer,
    "procrastinate": _procrastinate,
}


def main(name: str, dsn: str, jobs: int) -> None:
    """Runs one peer in this process."""

    async def run() -> float:
        return await _PEERS[name](dsn, jobs)

    try:
        import uvloop
    except ImportError:
        print(asyncio.run(run()))
    else:
        print(uvloop.run(run()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
