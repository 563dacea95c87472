"""Measures other job queues for Python on the same PostgreSQL, with jobs that do nothing, for comparison.

Each runs as one process, with the fast settings from its documentation, on its own database:
`python -m pandawn_tools.bench.peers NAME DSN JOBS SECONDS` prints its jobs per second.
They do less than Pandawn: no choice by locality, no leases over a network, no explanation.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.services import Postgres

_TIMEOUT_S = 120.0
"""Time for a peer to create its tables, fill its queue, and process it."""

_BATCH = 100
"""Jobs that pgqueuer takes at a time; its guide recommends more than 10 for short jobs."""

_WORKERS = 2
"""Consumers of pgqueuer in its process; more do not help on two cores."""

_CONCURRENCY = 30
"""Jobs that a worker of procrastinate runs at a time."""


@dataclass(frozen=True, slots=True)
class Peers:
    """Jobs per second of each peer; None if it is not installed."""

    pgqueuer: float | None
    procrastinate: float | None


def measure_peers(server: Postgres, jobs: int, seconds: float) -> Peers:
    """Lets each peer process a queue of `jobs`, for a limited time. Raises `BenchError` if one fails."""
    return Peers(
        _run(server, "pgqueuer", ("pgqueuer", "asyncpg"), jobs, seconds),
        _run(server, "procrastinate", ("procrastinate",), jobs, seconds),
    )


def _run(
    server: Postgres, name: str, packages: tuple[str, ...], jobs: int, seconds: float
) -> float | None:
    if not all(importlib.util.find_spec(package) for package in packages):
        return None
    server.create(name)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", __spec__.name),
                *(name, server.dsn(name), str(jobs), str(seconds)),
            ],
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


async def _pgqueuer(dsn: str, jobs: int, seconds: float) -> float:
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
    count = _Count()
    managers = [PgQueuer(await driver()) for _ in range(_WORKERS)]
    for manager in managers:

        @manager.entrypoint("noop")
        async def noop(job: Job) -> None:
            del job
            count.one_more()

    def stop() -> None:
        for manager in managers:
            manager.shutdown.set()

    asyncio.get_running_loop().call_later(seconds, stop)
    await asyncio.gather(
        *(m.run(batch_size=_BATCH, mode=QueueExecutionMode.drain) for m in managers)
    )
    return count.rate


async def _procrastinate(dsn: str, jobs: int, seconds: float) -> float:
    import procrastinate
    import procrastinate.types

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, max_size=8))
    count = _Count()

    @app.task(name="noop")
    async def noop(text: str) -> None:
        del text
        count.one_more()

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        arguments: procrastinate.types.JSONDict = {"text": "x" * 100}
        await noop.batch_defer_async(*[arguments] * jobs)
        working = app.run_worker_async(
            wait=False,
            concurrency=_CONCURRENCY,
            listen_notify=False,
            install_signal_handlers=False,
            shutdown_graceful_timeout=1.0,
        )
        with suppress(TimeoutError):
            await asyncio.wait_for(working, seconds)
        return count.rate


@dataclass(slots=True)
class _Count:
    """The number of jobs taken, and the times of the first and the last."""

    taken: int = 0
    first: float = 0.0
    last: float = 0.0

    def one_more(self) -> None:
        """Counts a job."""
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.taken += 1

    @property
    def rate(self) -> float:
        """Jobs per second between the first and the last."""
        return (self.taken - 1) / (self.last - self.first) if self.taken > 1 else 0.0


_PEERS: Mapping[str, Callable[[str, int, float], Awaitable[float]]] = {
    "pgqueuer": _pgqueuer,
    "procrastinate": _procrastinate,
}


def main(name: str, dsn: str, jobs: int, seconds: float) -> None:
    """Runs one peer in this process."""

    async def run() -> float:
        return await _PEERS[name](dsn, jobs, seconds)

    try:
        import uvloop
    except ImportError:
        print(asyncio.run(run()))
    else:
        print(uvloop.run(run()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
