"""A clock that continues while the machine is suspended.

time.monotonic() stops then, and the wall clock jumps when it is set. No clock inside a paused virtual
machine shows the pause: so the pilot asks the server whether a lease holds, and never computes it.
"""

from __future__ import annotations

import time

# Smaller differences between clocks are not jumps.
JUMP_SECONDS = 5.0


def now() -> float:
    """Seconds since boot, including time in suspend."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Jumps:
    """Detects that the machine was suspended, or that its wall clock was set."""

    def __init__(self) -> None:
        self._last = (time.monotonic(), now(), time.time())

    def look(self) -> float:
        """The largest jump of a clock since the last call, in seconds; 0 if none."""
        before, self._last = self._last, (time.monotonic(), now(), time.time())
        ticked = self._last[0] - before[0]
        jumps = [after - earlier - ticked for earlier, after in zip(before[1:], self._last[1:])]
        widest = max(jumps, key=abs)
        return widest if abs(widest) > JUMP_SECONDS else 0.0
