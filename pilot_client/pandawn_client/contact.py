"""Records whether the server responds: when one call succeeds, the others end their pauses."""

from __future__ import annotations

import random
import threading
import time

import grpc

from pandawn_client.stop import Stop

_SILENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_LOOK_SECONDS = 0.2
# Spreads the calls of many pilots when their server comes back.
_SPREAD_SECONDS = 1.0


class Contact:
    """Records how calls end; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_away = False
        self._returns = 0

    def record(self, code: grpc.StatusCode | None) -> None:
        """Records the status of an ended call."""
        with self._lock:
            if code in _SILENT:
                self._is_away = True
            elif code is not grpc.StatusCode.CANCELLED and self._is_away:
                self._is_away = False
                self._returns += 1

    def pause(self, stop: Stop, seconds: float, at_least: float = 0.0) -> None:
        """Sleeps `seconds`, or until `stop` is set or another call reaches the server.

        `at_least` is the shortest pause in seconds, as requested by the server.
        """
        begin, seen = time.monotonic(), self._returns
        end = begin + seconds
        while (left := end - time.monotonic()) > 0 and not stop.wait(min(left, _LOOK_SECONDS)):
            if seen != self._returns:
                seen = self._returns
                spread = random.uniform(0, _SPREAD_SECONDS)
                end = min(end, max(time.monotonic() + spread, begin + at_least))
