"""Closed-loop load: a fixed number of calls is in flight, and each answer makes room for the next call."""

from __future__ import annotations

import gc
import select
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pandawn_tools.bench.h2 import Answer, Connection, ProtocolError

_POLL_S = 0.02
_DRAIN_S = 30.0
"""Time for the answers to calls that are in flight when a slice ends."""


@dataclass(frozen=True, slots=True)
class Target:
    """A method on servers; the connections are shared out among the addresses (host, port)."""

    addresses: Sequence[tuple[str, int]]
    path: str


@dataclass(frozen=True, slots=True)
class Shape:
    """How the load looks: connections, calls in flight on each, and for how long."""

    connections: int
    streams: int
    warm_s: float
    measure_s: float


@dataclass(slots=True)
class Load:
    """What came of it.

    `ok`, `seconds` and `latencies_s` are those of the measured window; `total_ok` counts the warm-up and the
    calls in flight at the end as well. `idle` and `total_idle` are answers so short that nothing was
    given; they are not good ones. `statuses` are gRPC status codes of all calls.
    """

    seconds: float = 0.0
    ok: int = 0
    total_ok: int = 0
    idle: int = 0
    total_idle: int = 0
    latencies_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rps(self) -> float:
        """Good answers a second."""
        return self.ok / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Latency that this share of the calls did not exceed, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3 if ordered else 0.0


class Generator:
    """Keeps calls in flight; `run` may be called once."""

    def __init__(
        self,
        target: Target,
        shape: Shape,
        messages: Iterator[bytes],
        *,
        min_bytes: int = 0,
        keep_bodies: bool = False,
        on_window: Callable[[bool], None] = lambda _: None,
        on_ok: Callable[[], None] = lambda: None,
    ) -> None:
        """Sends `messages` until the time is over or there are no more.

        An answer of less than `min_bytes` counts as idle. `on_window` is told when the measured window opens (True) and closes; `on_ok` of each good answer.
        """
        self._shape = shape
        self._messages = messages
        self._dry = False
        self._on_window = on_window
        self._on_ok = on_ok
        self._min_bytes = min_bytes
        self._keep_bodies = keep_bodies
        self._load = Load()
        self._now = 0.0
        self._open = False
        # A message that a server had no room for goes with the next call.
        self._held: bytes | None = None
        self._connections = [
            Connection(
                *target.addresses[number % len(target.addresses)],
                target.path,
                keep_bodies=keep_bodies,
            )
            for number in range(shape.connections)
        ]

    def run(self) -> Load:
        """Runs warm-up and measurement, waits for the last answers, and closes the connections."""
        gc.collect()
        gc.disable()
        try:
            self._run()
        finally:
            gc.enable()
            for connection in self._connections:
                connection.close()
        return self._load

    def _run(self) -> None:
        poller = select.epoll()
        by_fd = {c.socket.fileno(): c for c in self._connections}
        for fd in by_fd:
            poller.register(fd, select.EPOLLIN)
        writing: set[int] = set()
        clock = time.perf_counter
        begin = self._now = clock()
        window_at = begin + self._shape.warm_s
        end = window_at + self._shape.measure_s
        for connection in self._connections:
            self._refill(connection)
            connection.flush()
        issuing = True
        opened_at = 0.0
        last_answer = begin
        while issuing or any(c.in_flight for c in self._connections):
            events = poller.poll(_POLL_S)
            now = self._now = clock()
            if events:
                last_answer = now
            elif now - last_answer > _DRAIN_S:
                raise ProtocolError(f"no answer for {_DRAIN_S:.0f} s")
            if not self._open and issuing and now >= window_at:
                self._open, opened_at = True, now
                self._on_window(True)
            if issuing and (now >= end or self._dry):
                issuing = False
                if self._open:
                    self._load.seconds = now - opened_at
                    self._on_window(False)
                self._open = False
            for fd, _ in events:
                connection = by_fd[fd]
                connection.receive(self._on_answer)
                if issuing:
                    self._refill(connection)
                if connection.has_output:
                    connection.flush()
                if connection.has_output != (fd in writing):
                    writing ^= {fd}
                    poller.modify(fd, select.EPOLLIN | (select.EPOLLOUT if fd in writing else 0))

    def _refill(self, connection: Connection) -> None:
        for _ in range(self._shape.streams - connection.in_flight):
            message = self._held or next(self._messages, None)
            self._held = None
            if message is None:
                self._dry = True
                break
            if not connection.call(message, self._now):
                self._held = message
                break

    def _on_answer(self, answer: Answer) -> None:
        load = self._load
        load.statuses[answer.status] += 1
        if answer.status:
            return
        if answer.size < self._min_bytes:
            load.total_idle += 1
            load.idle += self._open
            return
        load.total_ok += 1
        self._on_ok()
        if self._keep_bodies:
            load.bodies.append(answer.body)
        if self._open:
            load.ok += 1
            load.latencies_s.append(self._now - answer.begin)
