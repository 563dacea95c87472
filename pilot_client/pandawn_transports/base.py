"""The interface of transports, and their errors."""

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
    """Why a transfer failed: a fault of the storage or of the user, unless noted."""

    NO_TRANSPORT = auto()
    MISSING = auto()
    FORBIDDEN = auto()
    # The disk of the destination is full.
    FULL = auto()
    # The copy differs from the storage's checksum or size.
    CORRUPT = auto()
    # The file was modified or replaced during the copy.
    CHANGED = auto()
    # The storage does not respond, hangs, or fails.
    UNAVAILABLE = auto()
    # The storage is read-only.
    READ_ONLY = auto()
    # The storage is not mounted on the node.
    NOT_MOUNTED = auto()
    # The node's own disk fails, other than by being full.
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
"""Transient faults: a retry may succeed."""

STORAGE_AWAY = frozenset({TransferFault.UNAVAILABLE, TransferFault.READ_ONLY})
"""Transient faults of the storage: retry for a time rather than a number of times."""


class TransferError(Exception):
    """A failed transfer; its text is a sentence that names the file."""

    def __init__(self, fault: TransferFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True)
class SourceStat:
    """A storage's metadata of a file; 0 for unknown values.

    While all values are equal, the file was neither modified nor replaced. The mtime alone can be set back;
    the ctime cannot.
    """

    size_bytes: int
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    device: int = 0


def settle(source: SourceStat, stop: Stop) -> None:
    """Waits until any further change of a file would change its times. Raises the error of `stop`.

    Call it before reading a file, so that a comparison of the times afterwards is reliable.
    """
    pause = seconds_to_settle(max(source.mtime_ns, source.ctime_ns))
    if pause > 0:
        stop.sleep(pause)


@dataclass(frozen=True)
class Stored:
    """A stored file, with checksums of the bytes that were written. `sha256` is empty unless requested."""

    size_bytes: int
    adler32: str
    sha256: str = ""


@dataclass(frozen=True)
class Publishing:
    """How a file is stored.

    `owner` (characters of `A-Za-z0-9-`, at most 60) identifies the attempt in the names of parts.
    `before_publish` is called when all bytes are written, immediately before the file becomes visible, maybe
    several times; it can raise to prevent that. `storage_root` is the URL of a directory that must exist;
    missing directories below it are created. A transfer without progress fails after `patience_seconds`;
    None: the transport's default. `warn` gets warnings for administrators.
    """

    owner: str
    before_publish: Callable[[], None]
    stop: Stop
    storage_root: str = ""
    with_sha256: bool = False
    patience_seconds: float | None = None
    warn: Callable[[str], None] = lambda _: None


class Transport(Protocol):
    """Moves single files; thread-safe. The error of a `stop` ends a transfer.

    A hanging storage does not block the caller: the blocked process is abandoned, and UNAVAILABLE raised.
    """

    def normal(self, url: str) -> str:
        """The URL in the normal form that tasks use. Raises TransferError if it names no file."""
        ...

    def local_path(self, url: str) -> Path | None:
        """The path of the file in a mounted file system; None if it has none. Raises TransferError.

        Programs of the node can open such a file by its path, with the rights of their account.
        """
        ...

    def read_as(self, account: Account) -> Transport:
        """The same transport, which reads only files that `account` of this machine can read."""
        ...

    def checksum(self, url: str, stop: Stop | None = None) -> str:
        """The storage's checksum as `<algorithm>:<hex>`; empty if it has none. Raises TransferError."""
        ...

    def look(self, url: str, stop: Stop | None = None) -> SourceStat:
        """The storage's metadata of the file at `url`, at least its size. Raises TransferError."""
        ...

    def fetch(self, url: str, destination: Path, stop: Stop, checksum: str = "") -> SourceStat:
        """Copies `url` to the local file `destination`, which may exist with any content.

        Returns the storage's metadata from before the copy. `checksum` is the one that the caller will
        check the copy with. Without it, a transport compares with the storage's own checksum if that needs
        no transfer, and checks that the file has not changed meanwhile. Raises TransferError; the
        destination then has undefined content.
        """
        ...

    def store(self, source: Path, url: str, how: Publishing) -> Stored:
        """Stores a local file at `url` atomically, replacing an existing one.

        First removes all parts of the same file from other attempts, so that none of them can be renamed
        later. Raises TransferError, and what `before_publish` raises.
        """
        ...
