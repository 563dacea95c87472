"""One slice of load on a server, with what it cost each process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pandawn_tools.bench.load import Generator, Load, Shape, Target
from pandawn_tools.bench.processes import BenchError, cpu_seconds, rss_mb, tree_cpu_seconds


@dataclass(frozen=True, slots=True)
class Processes:
    """Process ids: the server under test, and what it works with (0: there is none)."""

    server: int
    postgres: int = 0
    memcached: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice showed. CPU is in microseconds for each good answer."""

    load: Load
    rps: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float
    postgres_cpu_us: float
    memcached_cpu_us: float
    generator_cpu_us: float
    rss_mb: float


class _Meter:
    """CPU time used inside the measured window, by process."""

    def __init__(self, processes: Processes) -> None:
        self._readers: tuple[Callable[[], float], ...] = (
            lambda: cpu_seconds(processes.server),
            lambda: tree_cpu_seconds(processes.postgres) if processes.postgres else 0.0,
            lambda: cpu_seconds(processes.memcached) if processes.memcached else 0.0,
            lambda: cpu_seconds(os.getpid()),
        )
        self.used = [0.0] * len(self._readers)

    def turn(self, opened: bool) -> None:
        """Starts or ends the window."""
        sign = -1 if opened else 1
        for position, read in enumerate(self._readers):
            self.used[position] += sign * read()


def measure(
    target: Target,
    shape: Shape,
    messages: Iterator[bytes],
    processes: Processes,
    *,
    on_ok: Callable[[], None] = lambda: None,
    min_bytes: int = 0,
    keep_bodies: bool = False,
) -> Slice:
    """Runs a slice. Raises `BenchError` if a call was refused or none answered."""
    meter = _Meter(processes)
    load = Generator(
        target,
        shape,
        messages,
        min_bytes=min_bytes,
        keep_bodies=keep_bodies,
        on_window=meter.turn,
        on_ok=on_ok,
    ).run()
    refused = {status: n for status, n in load.statuses.items() if status}
    if refused or not load.ok:
        raise BenchError(
            f"{target.path}: {load.ok} good answers, and by gRPC status {refused or 'no other'}"
        )
    server, postgres, memcached, generator = (1e6 * used / load.ok for used in meter.used)
    return Slice(
        load,
        load.rps,
        load.quantile_ms(0.5),
        load.quantile_ms(0.99),
        server,
        postgres,
        memcached,
        generator,
        rss_mb(processes.server),
    )
