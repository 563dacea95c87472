"""AcquireJobs against the limit: slices of both in turn, at each depth of the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pandawn_tools.bench.depth import DepthKeeper
from pandawn_tools.bench.fill import Pool
from pandawn_tools.bench.load import Shape
from pandawn_tools.bench.measure import Processes, Slice, measure
from pandawn_tools.bench.messages import ACQUIRE, EMPTY, acquire_requests
from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.site import DATABASE, Site

MIN_LEASE_BYTES = 300
"""A shorter answer holds no lease."""


@dataclass(frozen=True, slots=True)
class Round:
    """A slice of the limit and, right after it, one of AcquireJobs."""

    empty: Slice
    acquire: Slice

    @property
    def ratio(self) -> float:
        """How much of the limit AcquireJobs reached."""
        return self.acquire.rps / self.empty.rps


def measure_acquire(
    site: Site, shape: Shape, rounds: int, say: Callable[[str], None]
) -> dict[Pool, list[Round]]:
    """Measures all depths in each round, so that what else the machine does hits them alike.

    Raises `BenchError` if a call got no job, or if leases and answers do not match.
    """
    processes = Processes(
        site.server.process.pid, site.postgres.process.pid, site.memcached.process.pid
    )
    found: dict[Pool, list[Round]] = {pool: [] for pool in site.pools}
    requests = {pool: acquire_requests(pool, site.nodes) for pool in site.pools}
    with site.postgres.connect(DATABASE) as link:
        keepers = {pool: DepthKeeper(link, pool) for pool in site.pools}
        before = _leases(site)
        answered = 0
        for number in range(rounds):
            for pool in site.pools:
                empty = measure(site.target(EMPTY), shape, requests[pool], processes)
                keeper = keepers[pool]
                with keeper.keeping():
                    acquire = measure(
                        site.target(ACQUIRE),
                        shape,
                        requests[pool],
                        processes,
                        on_ok=keeper.took_one,
                        min_bytes=MIN_LEASE_BYTES,
                    )
                answered += acquire.load.total_ok
                if keeper.exhausted:
                    raise BenchError(f"queue {pool.queue} has no jobs in reserve left")
                found[pool].append(Round(empty, acquire))
                say(
                    f"round {number + 1}, {pool.depth:>9,} waiting: empty {empty.rps:6.0f}/s, "
                    f"acquire {acquire.rps:6.0f}/s, ratio {acquire.rps / empty.rps:.2f}, "
                    f"without job {acquire.load.idle}, p50 {acquire.p50_ms:.1f} ms, p99 {acquire.p99_ms:.1f} ms; CPU us a call: "
                    f"empty {empty.server_cpu_us:.0f}, acquire {acquire.server_cpu_us:.0f}, "
                    f"postgres {acquire.postgres_cpu_us:.0f}, memcached {acquire.memcached_cpu_us:.0f}, "
                    f"generator {acquire.generator_cpu_us:.0f}"
                )
        leased = _leases(site) - before
    if leased != answered:
        raise BenchError(f"{answered} calls were answered, but {leased} jobs were leased")
    return found


def _leases(site: Site) -> int:
    with site.postgres.connect(DATABASE) as connection:
        row = connection.execute("SELECT count(*) FROM leases").fetchone()
    return int(row[0]) if row else 0
