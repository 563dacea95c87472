"""The clock of spans that others measure, too: it goes on while the machine is suspended.

time.monotonic() stands still then, and the wall clock jumps whenever somebody sets it. Of a virtual
machine that is paused as a whole no clock of its own tells anything: whether a lease still holds is
therefore asked of the server, and never reckoned.
"""

from __future__ import annotations

import time

# Clocks that differ by more than this did not just tick at different moments.
JUMP_SECONDS = 5.0


def now() -> float:
    """Seconds since the machine started, those in which it was suspended included."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Jumps:
    """Notices that the machine stood still, or that its wall clock was set."""

    def __init__(self) -> None:
        self._last = (time.monotonic(), now(), time.time())

    def look(self) -> float:
        """By how many seconds a clock has jumped since the last look; 0 when none did."""
        before, self._last = self._last, (time.monotonic(), now(), time.time())
        ticked = self._last[0] - before[0]
        jumps = [after - earlier - ticked for earlier, after in zip(before[1:], self._last[1:])]
        widest = max(jumps, key=abs)
        return widest if abs(widest) > JUMP_SECONDS else 0.0
