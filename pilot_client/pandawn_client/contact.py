"""Whether the server answers: when one call gets through, the others stop waiting."""

from __future__ import annotations

import random
import threading
import time

import grpc

from pandawn_client.stop import Stop

_SILENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_LOOK_SECONDS = 0.2
# Of many pilots whose server comes back not all call in the same moment.
_SPREAD_SECONDS = 1.0


class Contact:
    """Notes how calls end; for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_away = False
        self._returns = 0

    def note(self, code: grpc.StatusCode | None) -> None:
        """Takes the status of a call that ended."""
        with self._lock:
            if code in _SILENT:
                self._is_away = True
            elif code is not grpc.StatusCode.CANCELLED and self._is_away:
                self._is_away = False
                self._returns += 1

    def pause(self, stop: Stop, seconds: float, at_least: float = 0.0) -> None:
        """Sleeps, until `stop` is set, or another call finds that the server is back.

        `at_least` is what the server itself asked for.
        """
        begin, seen = time.monotonic(), self._returns
        end = begin + seconds
        while (left := end - time.monotonic()) > 0 and not stop.wait(min(left, _LOOK_SECONDS)):
            if seen != self._returns:
                seen = self._returns
                spread = random.uniform(0, _SPREAD_SECONDS)
                end = min(end, max(time.monotonic() + spread, begin + at_least))
