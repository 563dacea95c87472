"""Processes that access mounted storage for the pilot, so that a hanging mount blocks none of its threads.

A helper processes one order at a time. It is killed if it does not answer in time, or if its job is stopped.
One that survives SIGKILL is abandoned, and counted until it has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pandawn_transports import mover
from pandawn_transports.base import TransferError, TransferFault
from pandawn_transports.mover.main import clocks
from pandawn_transports.stop import Stop

# Longest time without progress: the failover of a file server takes a minute or two.
STILL_SECONDS = 120.0
# The same at a storage where other helpers hang already.
STILL_HANGING_SECONDS = 5.0
# Slowest allowed average rate of a transfer ...
MIN_BYTES_PER_SECOND = 1_000_000
# ... beyond this time, which even a small file may take.
START_SECONDS = 180.0
# Time for a stopped helper to clean up.
CLEAN_UP_SECONDS = 1.0
# Limits of hanging helpers, per storage and in total: beyond them no more orders are sent.
MAX_HANGING_AT_ONE = 8
MAX_HANGING = 64
# Most idle helpers; a new one takes some 20 ms to start.
MAX_IDLE = 4
_POLL_SECONDS = 0.2
_START = "import sys; sys.path.append(sys.argv[1]); from pandawn_transports.mover.main import main; main()"

_Message = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """An order at a storage. `where` names the storage in errors; `content` goes to the helper.

    For `before_publish` and `patience_seconds` see Publishing.
    """

    content: Mapping[str, Any]
    where: str
    before_publish: Callable[[], None] | None = None
    patience_seconds: float | None = None


class Helpers:
    """A pool of helpers; thread-safe.

    `hanging` has abandoned helpers with their storages; `devices` the devices of storage roots at the last
    store below them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.devices: dict[str, int] = {}
        self.idle: list[_Helper] = []
        self.hanging: list[tuple[_Endable, str]] = []
        atexit.register(self.close)

    def hanging_at(self, where: str) -> int:
        """The number of abandoned helpers at a storage that have not ended yet."""
        with self._lock:
            self.hanging = [item for item in self.hanging if not item[0].has_ended()]
            return sum(1 for _, at in self.hanging if at == where)

    def do(self, order: Order, stop: Stop | None = None) -> _Message:
        """Runs an order in a helper; returns the answer. Raises TransferError and StoppedError."""
        hanging = self.hanging_at(order.where)
        if hanging >= MAX_HANGING_AT_ONE or len(self.hanging) >= MAX_HANGING:
            raise TransferError(
                TransferFault.UNAVAILABLE,
                f"the storage at {order.where} does not respond: {hanging} transfers hang there",
            )
        helper = self._take()
        is_done = False
        try:
            answer = _Errand(helper, order, stop, is_hanging=hanging > 0).run()
            is_done = "dropped" not in answer
        finally:
            if is_done:
                self._give_back(helper)
            elif not helper.end():
                with self._lock:
                    self.hanging.append((helper, order.where))
        return answer

    def close(self) -> None:
        """Ends the idle helpers."""
        with self._lock:
            idle, self.idle = self.idle, []
        for helper in idle:
            helper.end()

    def _take(self) -> _Helper:
        with self._lock:
            while self.idle:
                helper = self.idle.pop()
                if not helper.has_ended():
                    return helper
                helper.end()
        return _Helper()

    def _give_back(self, helper: _Helper) -> None:
        with self._lock:
            if len(self.idle) < MAX_IDLE:
                self.idle.append(helper)
                return
        helper.end()


class _Endable(Protocol):
    def has_ended(self) -> bool: ...


class _Helper:
    """One process and the pipes to it."""

    def __init__(self) -> None:
        places = Path(mover.__file__).parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, str(places)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # A signal to the pilot's group must not reach it.
            start_new_session=True,
            cwd="/",
            # Only what Python needs: a payload of our account can read it in /proc.
            env={
                name: value
                for name, value in os.environ.items()
                if name == "PATH" or name.startswith("LD_")
            },
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input = self._process.stdin
        self._output = self._process.stdout
        self._unread = b""

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a line. A dead helper is noticed later, as it does not answer."""
        with contextlib.suppress(BrokenPipeError):
            line = json.dumps(message).encode() + b"\n"
            while line:
                line = line[os.write(self._input.fileno(), line) :]

    def receive(self, seconds: float) -> list[_Message] | None:
        """The lines that arrive within `seconds`, maybe none; None if the helper has ended."""
        if not select.select([self._output], [], [], seconds)[0]:
            return []
        piece = os.read(self._output.fileno(), 65536)
        if not piece:
            return None
        *lines, self._unread = (self._unread + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process."""
        return self._process

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def end(self) -> bool:
        """Kills the process; False if it survives, as it waits for a hanging disk."""
        self._input.close()
        self._output.close()
        self._process.kill()
        try:
            self._process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True


class _Errand:
    """One order in one helper."""

    def __init__(
        self, helper: _Helper, order: Order, stop: Stop | None, *, is_hanging: bool
    ) -> None:
        self.helper = helper
        self.order = order
        self.stop = stop
        self.begin = self.moved_at = time.monotonic()
        self.ends_at = self.begin + START_SECONDS
        self.still = order.patience_seconds or STILL_SECONDS
        if is_hanging:
            self.still = min(self.still, STILL_HANGING_SECONDS)
        self.seconds_to_move = 0.0
        self.position = -1

    def run(self) -> _Message:
        """Waits for the answer. Raises TransferError and StoppedError."""
        self.helper.send(self.order.content)
        try:
            while True:
                answer = self._poll()
                if answer is not None:
                    return answer
                if self.stop is not None:
                    self.stop.check()
                self._check_time()
        except BaseException:
            self._cancel()
            raise

    def _poll(self) -> _Message | None:
        """Reads lines from the helper for a moment; returns the answer, or None."""
        lines = self.helper.receive(_POLL_SECONDS)
        if lines is None:
            raise TransferError(
                TransferFault.OTHER,
                f"the process that copies from or to {self.order.where} was killed",
            )
        now = time.monotonic()
        for line in lines:
            if not _is_progress(line):
                return line
            if "ready" in line:
                self._publish()
                # An outage of the server must not count.
                self.ends_at += time.monotonic() - now
                self.moved_at = now = time.monotonic()
            elif "size" in line:
                self.seconds_to_move = line["size"] / MIN_BYTES_PER_SECOND
                self.ends_at += self.seconds_to_move
            elif "syncing" in line:
                # The kernel shows no progress while it writes out its buffers.
                self.still, self.moved_at = max(self.still, self.seconds_to_move), now
            elif line["at"] != self.position:
                self.position, self.moved_at = line["at"], now
        return None

    def _check_time(self) -> None:
        now = time.monotonic()
        if now > min(self.moved_at + self.still, self.ends_at):
            raise TransferError(
                TransferFault.UNAVAILABLE,
                f"the storage at {self.order.where} does not respond: given up after"
                f" {now - self.begin:.0f} s, the last {now - self.moved_at:.0f} s without progress",
            )

    def _publish(self) -> None:
        assert self.order.before_publish is not None, "only stores ask"
        self.order.before_publish()
        self.helper.send({"publish": clocks()})

    def _cancel(self) -> None:
        """Makes the helper remove its part, if it still can."""
        self.helper.send({"drop": True})
        deadline = time.monotonic() + CLEAN_UP_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            lines = self.helper.receive(left)
            if lines is None or not all(_is_progress(line) for line in lines):
                return


def _is_progress(line: _Message) -> bool:
    """Whether a line reports progress, so that the answer is still to come."""
    return not line.keys().isdisjoint(("at", "size", "ready", "syncing"))


HELPERS = Helpers()
"""The helpers of this process."""
