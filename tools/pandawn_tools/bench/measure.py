"""One slice of load on a server, with the CPU time of each process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pandawn_tools.bench.h2 import Call, ProtocolError
from pandawn_tools.bench.load import Generator, Load, Shape, Target
from pandawn_tools.bench.processes import BenchError, cpu_seconds, rss_mb, tree_cpu_seconds


@dataclass(frozen=True, slots=True)
class Processes:
    """Process ids of the server under test and of its backends (0: none)."""

    server: int
    postgres: int = 0
    memcached: int = 0


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPU time in microseconds for each good answer, by process."""

    server: float
    postgres: float
    memcached: float
    generator: float


@dataclass(frozen=True, slots=True)
class Slice:
    """The result of one slice."""

    load: Load
    cpu_us: CpuUse
    rss_mb: float


class _IdleWatcher:
    """A watcher that does nothing."""

    def window_opens(self) -> None:
        """See `Watcher`."""

    def window_closes(self) -> None:
        """See `Watcher`."""

    def good_answer(self) -> None:
        """See `Watcher`."""


IDLE_WATCHER = _IdleWatcher()
"""For loads that are not measured."""


class _Meter:
    """CPU time used inside the measured window, by process."""

    def __init__(self, processes: Processes, on_ok: Callable[[], None]) -> None:
        self.good_answer = on_ok
        self._processes = processes
        self.used = [0.0] * 4

    def window_opens(self) -> None:
        """Starts all clocks."""
        self.used = self._read()

    def window_closes(self) -> None:
        """Stops them."""
        self.used = [now - before for now, before in zip(self._read(), self.used, strict=True)]

    def _read(self) -> list[float]:
        found = self._processes
        return [
            cpu_seconds(found.server),
            tree_cpu_seconds(found.postgres) if found.postgres else 0.0,
            cpu_seconds(found.memcached) if found.memcached else 0.0,
            cpu_seconds(os.getpid()),
        ]


def _nothing() -> None:
    pass


def measure(
    target: Target,
    shape: Shape,
    messages: Iterator[bytes | Call],
    processes: Processes,
    *,
    on_ok: Callable[[], None] = _nothing,
    min_bytes: int = 0,
    keep_bodies: bool = False,
) -> Slice:
    """Runs a slice. Raises `BenchError` if a call was refused or no call had a good answer."""
    meter = _Meter(processes, on_ok)
    try:
        load = Generator(
            target, shape, messages, meter, min_bytes=min_bytes, keep_bodies=keep_bodies
        ).run()
    except ProtocolError as error:
        raise BenchError(f"{target.path}: {error}") from error
    refused = {status: times for status, times in load.statuses.items() if status}
    if refused or not load.ok:
        raise BenchError(
            f"{target.path}: {load.ok} good answers, and by gRPC status {refused or 'no other'}"
        )
    return Slice(
        load,
        CpuUse(*(1e6 * used / load.ok for used in meter.used)),
        rss_mb(processes.server),
    )
