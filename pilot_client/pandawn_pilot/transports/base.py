"""What a transport is and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    OTHER = auto()


PASSING = frozenset({TransferFault.OTHER, TransferFault.CORRUPT})
"""Faults after which another try may succeed."""


class TransferError(Exception):
    """A transfer that failed, with one sentence for people that names the file."""

    def __init__(self, fault: TransferFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


class Transport(Protocol):
    """Moves single files; called from several threads at once. StoppedError ends a transfer."""

    def size_of(self, url: str, stop: Stop | None = None) -> int:
        """Size in bytes of the file at `url`. Raises TransferError."""
        ...

    def fetch(self, url: str, destination: Path, stop: Stop, checksum: str = "") -> None:
        """Makes the local file `destination` a copy of `url`; the file may exist with any content.

        `checksum` is what the caller is going to check the copy against. Without one a transport
        compares with the storage's own checksum where that costs no transfer. Raises TransferError;
        the destination may then hold anything.
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
