"""Two servers on one database: checks that no job is lost and none is dispatched twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pandawn.dispatcher.v1 import dispatcher_pb2
from pandawn_tools.bench.acquire import MIN_LEASE_BYTES
from pandawn_tools.bench.load import Shape, Target
from pandawn_tools.bench.measure import Processes, measure
from pandawn_tools.bench.messages import ACQUIRE, signed_requests
from pandawn_tools.bench.processes import LOOPBACK, BenchError
from pandawn_tools.bench.rows import Pool
from pandawn_tools.bench.services import PandawnServer
from pandawn_tools.bench.site import Site


@dataclass(frozen=True, slots=True)
class PairResult:
    """The jobs that two servers dispatched together, and their rate per second."""

    jobs: int
    rps: float


def check_pair(site: Site, pool: Pool, shape: Shape) -> PairResult:
    """Polls two servers for jobs of one queue at the same time, until the time or the jobs run out.

    Raises `BenchError` if a job was dispatched twice, dispatched without a lease, or leased without a dispatch.
    """
    before = site.database.leased()
    attempts_before = site.database.attempts()
    second = PandawnServer(site.directory, site.database.url, site.memcached.url)
    try:
        found = measure(
            Target([(LOOPBACK, site.server.port), (LOOPBACK, second.port)], ACQUIRE),
            shape,
            signed_requests(pool, site.nodes, site.sessions),
            Processes(site.server.process.pid),
            min_bytes=MIN_LEASE_BYTES,
            keep_bodies=True,
        )
    finally:
        second.process.stop()
    given = Counter(
        lease.job.job_id
        for body in found.load.bodies
        for lease in dispatcher_pb2.AcquireJobsResponse.FromString(body).leases
    )
    leased = site.database.leased() - before
    attempts = site.database.attempts() - attempts_before
    doubled = [job_id for job_id, times in given.items() if times > 1]
    lost = leased ^ given.keys()
    if doubled or lost or attempts != len(given):
        raise BenchError(
            f"two servers gave {len(given)} jobs in {attempts} attempts: {len(doubled)} of them twice "
            f"({doubled[:5]}), {len(lost)} not as leased ({sorted(lost)[:5]})"
        )
    return PairResult(len(given), found.load.rps)
