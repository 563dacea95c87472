"""How a pilot process ends."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """How a pilot process ends."""

    DONE = 0
    INTERNAL_ERROR = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    STOPPED = 5
