"""What a transport is and how it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from pandawn_transports.account import Account
from pandawn_transports.mover.copying import seconds_to_settle
from pandawn_transports.stop import Stop


class TransferFault(Enum):
    """Why a transfer failed: by default a fault of the storage or of the user."""

    NO_TRANSPORT = auto()
    MISSING = auto()
    FORBIDDEN = auto()
    # The disk at the receiving end is full.
    FULL = auto()
    # What arrived is not what the storage says it holds.
    CORRUPT = auto()
    # Somebody wrote to it, or put another in its place, while it was copied.
    CHANGED = auto()
    # The storage does not answer, hangs, or fails by itself.
    UNAVAILABLE = auto()
    # The storage takes nothing.
    READ_ONLY = auto()
    # The node does not see the storage at all: a mount that is missing.
    NOT_MOUNTED = auto()
    # The node's own disk fails, not for want of room.
    LOCAL = auto()
    OTHER = auto()


PASSING = frozenset(
    {
        TransferFault.OTHER,
        TransferFault.CORRUPT,
        TransferFault.CHANGED,
        TransferFault.UNAVAILABLE,
        TransferFault.READ_ONLY,
    }
)
"""Faults after which another try may succeed."""

STORAGE_AWAY = frozenset({TransferFault.UNAVAILABLE, TransferFault.READ_ONLY})
"""Those of them that pass when the storage is back, however often one tries before."""


class TransferError(Exception):
    """A transfer that failed, with one sentence for people that names the file."""

    def __init__(self, fault: TransferFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True)
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
    """Waits until the next change of a file would show in its times. Raises the error of `stop`.

    Called before the file is read, this lets a comparison of the times afterwards be believed.
    """
    pause = seconds_to_settle(max(source.mtime_ns, source.ctime_ns))
    if pause > 0:
        stop.sleep(pause)


@dataclass(frozen=True)
class Stored:
    """A file that the storage holds: what was read is what was written. `sha256` where it was wanted."""

    size_bytes: int
    adler32: str
    sha256: str = ""


@dataclass(frozen=True)
class Publishing:
    """How a file is stored.

    `owner` (characters of `A-Za-z0-9-`, at most 60) names the attempt in the names of parts.
    `before_publish` is called when all bytes are there, and prevents the file from becoming visible
    by raising; right before, so it may be called again. `storage_root` is the URL of a directory
    that must be there, below which others are made. Nothing may stand still for longer than
    `patience_seconds`; None: as long as the transport thinks fit. `warn` gets warnings for
    people.
    """

    owner: str
    before_publish: Callable[[], None]
    stop: Stop
    storage_root: str = ""
    with_sha256: bool = False
    patience_seconds: float | None = None
    warn: Callable[[str], None] = lambda _: None


class Transport(Protocol):
    """Moves single files; called from several threads at once. The error of a `stop` ends a transfer.

    A storage that hangs holds nobody: what waits for it is left behind, and UNAVAILABLE is raised.
    """

    def normal(self, url: str) -> str:
        """The URL in the one spelling that tasks use. Raises TransferError for what names no file."""
        ...

    def local_path(self, url: str) -> Path | None:
        """Where the file lies in a file system of this machine; None: not in one. Raises TransferError.

        Programs of the node may open such a file by its path, with the rights of their account.
        """
        ...

    def read_as(self, account: Account) -> Transport:
        """A transport that reads no more than an account of this machine may read."""
        ...

    def checksum(self, url: str, stop: Stop | None = None) -> str:
        """What the storage keeps, as `<algorithm>:<hex>`; empty: nothing. Raises TransferError."""
        ...

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

    def store(self, source: Path, url: str, how: Publishing) -> Stored:
        """Stores a local file at `url`, in place of what is there; nobody ever sees a part of it.

        All parts of the same file that others have left behind are removed before, so that none of
        them is renamed later. Raises TransferError, and what `before_publish` raises.
        """
        ...
