"""Runs the benchmark from its beginning to its figures."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from pandawn_tools.bench.acquire import measure_acquire
from pandawn_tools.bench.fill import Pool
from pandawn_tools.bench.load import Shape
from pandawn_tools.bench.site import running_site


@dataclass(frozen=True, slots=True)
class Options:
    depths: tuple[int, ...] = (1000,)
    nodes: int = 10_000
    rounds: int = 3
    seconds: float = 2.0
    connections: int = 16
    streams: int = 8
    reserve: int = 20_000


def run(options: Options) -> None:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    pools = []
    first = 0
    for depth in options.depths:
        pools.append(Pool(f"DEPTH_{depth}", depth, options.reserve, first))
        first = pools[-1].tasks.stop
    shape = Shape(options.connections, options.streams, 0.5, options.seconds)
    with running_site(pools, options.nodes, say) as site:
        say(f"server pid {site.server.process.pid}, log in {site.directory}")
        measure_acquire(site, shape, options.rounds, say)
