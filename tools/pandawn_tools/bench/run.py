"""Runs a whole benchmark, and returns its figures."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pandawn_tools.bench.acquire import AcquireBench, empty_rps, say_rounds
from pandawn_tools.bench.h2load import h2load_rps
from pandawn_tools.bench.load import Shape
from pandawn_tools.bench.machine import this_machine
from pandawn_tools.bench.measure import Processes
from pandawn_tools.bench.messages import EMPTY, acquire_requests
from pandawn_tools.bench.pair import check_pair
from pandawn_tools.bench.peers import Peers, measure_peers
from pandawn_tools.bench.profile import profile_acquire
from pandawn_tools.bench.rates import measure_rates
from pandawn_tools.bench.result import Result, acquire_figures
from pandawn_tools.bench.rows import LEASES_PER_PILOT, Pool, locality_wait_s
from pandawn_tools.bench.services import POSTGRES_SETTINGS
from pandawn_tools.bench.site import Engine, Site, World, running_site
from pandawn_tools.bench.workload import FILES_PER_NODE, JOBS_PER_TASK
from pandawn_tools.cli.jsonout import Json


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure: a slice of each kind, of `seconds`, in each round at each depth.

    `reserve` is the number of jobs beyond the depth that become runnable as others are acquired. `is_full` adds
    the check of the load generator, the time of a call under light load, and two servers on one database.
    """

    engine: Engine
    depths: tuple[int, ...]
    nodes: int
    rounds: int
    seconds: float
    warm_s: float
    connections: int
    streams: int
    reserve: int
    leased: int
    peer_jobs: int
    peer_seconds: float
    is_full: bool
    only_acquire: bool = False
    profile: Path | None = None


@dataclass(slots=True)
class _Narrator:
    """Reports the progress on standard error, with the seconds since the start."""

    begin: float

    def say(self, text: str) -> None:
        """Prints one line."""
        print(f"{time.monotonic() - self.begin:7.1f} s  {text}", file=sys.stderr, flush=True)


def run(options: Options) -> Result | None:
    """Runs the benchmark and cleans up; returns None with `only_acquire`. Raises `BenchError`."""
    # SIGTERM is handled like Ctrl-C, so that servers and their data are always removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say = _Narrator(time.monotonic()).say
    machine = this_machine()
    say(f"{machine.cores} cores of {machine.cpu}, load average {machine.load_average}")
    world = _world(options)
    shape = Shape(options.connections, options.streams, options.warm_s, options.seconds)
    with running_site(options.engine, world, say) as site:
        processes = Processes(
            site.server.process.pid,
            site.postgres.process.pid if site.postgres else 0,
            site.memcached.process.pid,
        )
        say(f"the server has process id {processes.server}")
        acquire = AcquireBench(site, shape, processes)
        say_rounds(acquire, options.rounds, say)
        if options.profile is not None:
            profile_acquire(acquire, world.waiting[0], shape, options.profile)
        full = _light(acquire, shape) if options.is_full else {}
        acquire.check()
        if options.only_acquire:
            return None
        engine = _engine(options, site) | full
        if options.is_full:
            say("h2load, and two servers on one database")
            engine |= _full(options, site, shape)
        rates = measure_rates(site, shape, processes, say)
        peers = Peers(None, None)
        if site.postgres is not None:
            say("the peers")
            peers = measure_peers(site.postgres, options.peer_jobs, options.peer_seconds)
        return Result(
            machine,
            engine,
            empty_rps(acquire.rounds),
            {pool.depth: acquire_figures(done) for pool, done in acquire.rounds.items()},
            rates,
            peers,
        )


def _world(options: Options) -> World:
    waiting: list[Pool] = []
    first_task = 0
    for depth in options.depths:
        # Tasks are complete: the reserve contains the remaining jobs.
        reserve = options.reserve + -(depth + options.reserve) % JOBS_PER_TASK
        waiting.append(Pool(f"DEPTH_{depth}", first_task, depth, reserve))
        first_task = waiting[-1].tasks.stop
    leased = options.leased + -options.leased % JOBS_PER_TASK
    return World(waiting, Pool("LEASED", first_task, leased=leased), options.nodes)


def _engine(options: Options, site: Site) -> dict[str, Json]:
    settings: dict[str, Json] = {}
    if options.engine == "postgres":
        settings = {name: value for name, value in POSTGRES_SETTINGS.items() if name in _TOLD}
    return {
        "name": site.database.name,
        "version": site.database.version(),
        "settings": settings,
        "catalog": "memcached",
        "nodes": options.nodes,
        "files_per_node": FILES_PER_NODE,
        "locality_wait_s": {
            str(depth): locality_wait_s(depth, options.nodes) for depth in options.depths
        },
        "leases_per_renewal": LEASES_PER_PILOT,
        "connections": options.connections,
        "calls_in_flight": options.connections * options.streams,
        "rounds": options.rounds,
        "seconds_per_slice": options.seconds,
    }


_TOLD = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers")


def _light(bench: AcquireBench, shape: Shape) -> dict[str, Json]:
    """The time of a call with few in flight; with many it is just their number divided by the rate."""
    light = Shape(_LIGHT, 1, shape.warm_s, shape.measure_s)
    load = bench.run_acquire(bench.site.world.waiting[-1], light).load
    return {
        "light_load": {
            "calls_in_flight": _LIGHT,
            "rps": round(load.rps, 1),
            "p50_ms": round(load.quantile_ms(0.5), 2),
            "p99_ms": round(load.quantile_ms(0.99), 2),
        }
    }


_LIGHT = 4


def _full(options: Options, site: Site, shape: Shape) -> dict[str, Json]:
    pool = site.world.waiting[-1]
    message = next(acquire_requests(pool, site.nodes))
    found: dict[str, Json] = {
        "h2load_empty_rps": h2load_rps(site.target(EMPTY), shape, message, site.directory)
    }
    if options.engine == "postgres":
        found["two_servers"] = asdict(check_pair(site, pool, shape))
    return found
