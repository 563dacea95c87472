"""Closed-loop load: a fixed number of calls is in flight, and each answer starts the next call."""

from __future__ import annotations

import gc
import select
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pandawn_tools.bench.h2 import Answer, Call, Connection, ProtocolError

_POLL_S = 0.02
_TURNS = 4
"""The number of answers for each call in flight before a window closes. With fewer, the result for a server that
answers in large batches would depend on the exact ends of the window."""

_MAX_STRETCH = 10
"""A window is extended at most to this many times its length to reach that."""

_STALL_S = 60.0
"""Time without any answer after which we assume that the server hangs."""


@dataclass(frozen=True, slots=True)
class Target:
    """A method on servers; the connections are distributed over the addresses (host, port)."""

    addresses: Sequence[tuple[str, int]]
    path: str


@dataclass(frozen=True, slots=True)
class Shape:
    """The load: connections, calls in flight on each, and durations.

    `measure_s` is extended if a server is so slow that there would be too few answers.
    """

    connections: int
    streams: int
    warm_s: float
    measure_s: float

    @property
    def in_flight(self) -> int:
        """Calls in flight."""
        return self.connections * self.streams


@dataclass(slots=True)
class Load:
    """The result of a load.

    `ok`, `idle`, `seconds` and `latencies_s` are for the measured window, the totals for all calls. Idle
    answers are too short to contain a job, and do not count as good. `statuses` are the gRPC status codes of
    all calls, `bodies` the good answers if they are kept.
    """

    seconds: float = 0.0
    ok: int = 0
    idle: int = 0
    total_ok: int = 0
    total_idle: int = 0
    latencies_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rps(self) -> float:
        """Good answers per second."""
        return self.ok / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        """The latency that this fraction of the good answers did not exceed, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3 if ordered else 0.0


class Watcher(Protocol):
    """Gets notifications during a load, in the thread of the load."""

    def window_opens(self) -> None:
        """The warm-up is over."""

    def window_closes(self) -> None:
        """No more calls are made; those in flight have no answer yet."""

    def good_answer(self) -> None:
        """A good answer has arrived, inside the window or not."""


class Generator:
    """Keeps calls in flight; `run` may be called once."""

    def __init__(
        self,
        target: Target,
        shape: Shape,
        messages: Iterator[bytes | Call],
        watcher: Watcher,
        *,
        min_bytes: int = 0,
        keep_bodies: bool = False,
    ) -> None:
        """Sends `messages` until the time or the messages run out.

        An answer of less than `min_bytes` counts as idle.
        """
        self._shape = shape
        self._messages = messages
        self._watcher = watcher
        self._min_bytes = min_bytes
        self._keep_bodies = keep_bodies
        self._load = Load()
        self._now = 0.0
        self._is_open = False
        self._is_dry = False
        # A message that did not fit a server's window goes with the next call.
        self._held: bytes | Call | None = None
        self._connections = [
            Connection(
                *target.addresses[number % len(target.addresses)],
                target.path,
                keep_bodies=keep_bodies,
            )
            for number in range(shape.connections)
        ]

    def run(self) -> Load:
        """Runs warm-up and measurement, waits for the last answers, and closes the connections.

        Raises `ProtocolError`.
        """
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
        begin = last_answer = opened = self._now = time.perf_counter()
        window_at = begin + self._shape.warm_s
        for connection in self._connections:
            self._refill(connection)
            connection.flush()
        is_issuing = True
        while is_issuing or any(c.in_flight for c in self._connections):
            events = poller.poll(_POLL_S)
            now = self._now = time.perf_counter()
            if events:
                last_answer = now
            elif now - last_answer > _STALL_S:
                raise ProtocolError(f"no answer for {_STALL_S:.0f} s")
            if not self._is_open and is_issuing and now >= window_at:
                self._is_open, opened = True, now
                self._watcher.window_opens()
            is_over = self._is_open and self._is_over(now - opened)
            if is_issuing and (self._is_dry or is_over):
                is_issuing = False
                if self._is_open:
                    self._load.seconds = now - opened
                    self._watcher.window_closes()
                self._is_open = False
            for fd, _ in events:
                connection = by_fd[fd]
                connection.receive(self._on_answer)
                if is_issuing:
                    self._refill(connection)
                if connection.has_output:
                    connection.flush()
                if connection.has_output != (fd in writing):
                    writing ^= {fd}
                    wanted = select.EPOLLOUT if fd in writing else 0
                    poller.modify(fd, select.EPOLLIN | wanted)

    def _is_over(self, window_s: float) -> bool:
        """Whether the window has been open for long enough."""
        length = self._shape.measure_s
        enough = self._load.ok + self._load.idle >= _TURNS * self._shape.in_flight
        return window_s >= length * (1 if enough else _MAX_STRETCH)

    def _refill(self, connection: Connection) -> None:
        for _ in range(self._shape.streams - connection.in_flight):
            message = self._held or next(self._messages, None)
            self._held = None
            if message is None:
                self._is_dry = True
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
            load.idle += self._is_open
            return
        load.total_ok += 1
        self._watcher.good_answer()
        if self._keep_bodies:
            load.bodies.append(answer.body)
        if self._is_open:
            load.ok += 1
            load.latencies_s.append(self._now - answer.begin)
