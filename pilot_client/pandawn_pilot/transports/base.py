"""What a transport is and how it fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from pandawn_pilot.stop import Stop


class TransferFault(Enum):
    """Why a transfer failed."""

    NO_TRANSPORT = auto()
    MISSING = auto()
    FORBIDDEN = auto()
    # The disk at the receiving end is full.
    FULL = auto()
    # What arrived is not what the storage says it holds.
    CORRUPT = auto()
    # Somebody wrote to it, or put another in its place, while it was copied.
    CHANGED = auto()
    OTHER = auto()


PASSING = frozenset({TransferFault.OTHER, TransferFault.CORRUPT, TransferFault.CHANGED})
"""Faults after which another try may succeed."""


class TransferError(Exception):
    """A transfer that failed, with one sentence for people that names the file."""

    def __init__(self, fault: TransferFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class SourceStat:
    """What a storage says of a file without reading it; 0: it does not say.

    While all of it stays the same, nobody has written to the file or put another in its place. The
    modification time alone can be set back; the time of change cannot.
    """

    size_bytes: int
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    device: int = 0


def settle(source: SourceStat, stop: Stop) -> None:
    """Waits until the next change of a file would show in its times. Raises StoppedError.

    Clocks of file systems tick: a file that changed within the present tick may change once more
    without a trace. Called before the file is read, this lets a comparison of the times afterwards
    be believed.
    """
    changed_ns = max(source.mtime_ns, source.ctime_ns)
    tick_ns = _COARSE_TICK_NS if changed_ns % _COARSE_TICK_NS == 0 else _TICK_NS
    age_ns = time.time_ns() - changed_ns
    # A change in the future is one by another clock, of which nothing is known.
    if changed_ns and 0 <= age_ns < tick_ns:
        stop.sleep((tick_ns - age_ns) / 1e9)


# Linux stamps files by its timer, at least a hundred times a second ...
_TICK_NS = 20_000_000
# ... and some storages by the second.
_COARSE_TICK_NS = 1_000_000_000


class Transport(Protocol):
    """Moves single files; called from several threads at once. StoppedError ends a transfer."""

    def look(self, url: str, stop: Stop | None = None) -> SourceStat:
        """What the storage says of the file at `url`, its size at least. Raises TransferError."""
        ...

    def fetch(self, url: str, destination: Path, stop: Stop, checksum: str = "") -> SourceStat:
        """Makes the local file `destination` a copy of `url`; the file may exist with any content.

        Returns what the storage said of the file before it was copied. `checksum` is what the
        caller is going to check the copy against; without one a transport compares with the
        storage's own checksum where that costs no transfer, and sees that the file is still as it
        was. Raises TransferError; the destination may then hold anything.
        """
        ...

    def store(
        self,
        source: Path,
        url: str,
        *,
        owner: str,
        earlier_owners: Sequence[str],
        before_publish: Callable[[], None],
        stop: Stop,
    ) -> None:
        """Stores a local file at `url`, in place of what is there; nobody ever sees a part of it.

        `owner` (characters of `A-Za-z0-9.-`) makes temporary names unique; what `earlier_owners`
        may have left behind is removed. `before_publish` is called when all bytes are there, and
        prevents the file from becoming visible by raising. Raises TransferError, and what
        `before_publish` raises.
        """
        ...
