"""Compares AcquireJobs with the limit: alternating slices of both, at each depth of the queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from pandawn_tools.bench.depth import DepthKeeper
from pandawn_tools.bench.h2 import Call
from pandawn_tools.bench.load import Shape
from pandawn_tools.bench.measure import Processes, Slice, measure
from pandawn_tools.bench.messages import ACQUIRE, EMPTY, signed_requests
from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.rows import Pool
from pandawn_tools.bench.site import Say, Site

MIN_LEASE_BYTES = 300
"""A shorter answer of AcquireJobs contains no lease."""


@dataclass(frozen=True, slots=True)
class Round:
    """A slice of the limit and, right after it, one of AcquireJobs."""

    empty: Slice
    acquire: Slice

    @property
    def ratio(self) -> float:
        """The rate of AcquireJobs as a fraction of the limit."""
        return self.acquire.load.rps / self.empty.load.rps

    @property
    def cpu_ratio(self) -> float:
        """The same from the server's CPU time per call, which other work on the machine disturbs less."""
        return self.empty.cpu_us.server / self.acquire.cpu_us.server


@dataclass(slots=True)
class AcquireBench:
    """Measures AcquireJobs at the depths of a site, slice by slice, and checks the totals at the end."""

    site: Site
    shape: Shape
    processes: Processes
    rounds: dict[Pool, list[Round]] = field(default_factory=dict)
    _requests: dict[Pool, Iterator[Call]] = field(default_factory=dict)
    _keepers: dict[Pool, DepthKeeper] = field(default_factory=dict)
    _answered: int = 0
    _leased_before: int = 0

    def __post_init__(self) -> None:
        """Prepares the requests."""
        for pool in self.site.world.waiting:
            self.rounds[pool] = []
            self._requests[pool] = signed_requests(pool, self.site.nodes, self.site.sessions)
            self._keepers[pool] = DepthKeeper(self.site.database, pool)
        self._leased_before = len(self.site.database.leased())

    def run_round(self, pool: Pool) -> Round:
        """Measures the limit and AcquireJobs at one depth. Raises `BenchError`."""
        done = Round(self.run_empty(pool, self.shape), self.run_acquire(pool, self.shape))
        self.rounds[pool].append(done)
        return done

    def run_empty(self, pool: Pool, shape: Shape) -> Slice:
        """One slice of the limit, with the same requests."""
        return measure(self.site.target(EMPTY), shape, self._requests[pool], self.processes)

    def run_acquire(self, pool: Pool, shape: Shape) -> Slice:
        """One slice of AcquireJobs."""
        keeper = self._keepers[pool]
        with keeper.keeping():
            found = measure(
                self.site.target(ACQUIRE),
                shape,
                self._requests[pool],
                self.processes,
                on_ok=keeper.took_one,
                min_bytes=MIN_LEASE_BYTES,
            )
        self._answered += found.load.total_ok
        return found

    def check(self) -> None:
        """Raises `BenchError` unless the database has exactly one lease for each answer with a job."""
        leased = len(self.site.database.leased()) - self._leased_before
        if leased != self._answered:
            raise BenchError(f"{self._answered} jobs were given, but {leased} were leased")


def summary(pool: Pool, done: Round) -> str:
    """A round in one line."""
    empty, acquire = done.empty, done.acquire
    share = acquire.load.idle / (acquire.load.idle + acquire.load.ok)
    return (
        f"{pool.depth:>9,} waiting: empty {empty.load.rps:5.0f}/s, acquire {acquire.load.rps:5.0f}/s, "
        f"ratio {done.ratio:.2f} (of CPU {done.cpu_ratio:.2f}), p50 {acquire.load.quantile_ms(0.5):.1f} ms, "
        f"p99 {acquire.load.quantile_ms(0.99):.1f} ms, no job {share:.1%}; "
        f"CPU us a call: empty {empty.cpu_us.server:.0f}, acquire {acquire.cpu_us.server:.0f}, "
        f"PostgreSQL {acquire.cpu_us.postgres:.0f}, memcached {acquire.cpu_us.memcached:.0f}, "
        f"generator {acquire.cpu_us.generator:.0f}"
    )


def say_rounds(bench: AcquireBench, rounds: int, say: Say) -> None:
    """Measures all depths in each round, so that other work on the machine affects them equally."""
    for number in range(rounds):
        for pool in bench.rounds:
            say(f"round {number + 1} of {rounds}, {summary(pool, bench.run_round(pool))}")


def empty_rps(rounds: Mapping[Pool, list[Round]]) -> float:
    """The limit: the median over all slices."""
    return median(done.empty.load.rps for some in rounds.values() for done in some)
