"""Ways to move files to a machine and away from it, one plug-in a URL scheme.

A transport is an object with the methods of `Transport`. To add one: write its module here, and name it in
`TRANSPORTS`. Pilot and command line take it from there; the server takes URLs of any scheme.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pandawn_transports.account import Account
from pandawn_transports.base import (
    PASSING,
    STORAGE_AWAY,
    Publishing,
    SourceStat,
    Stored,
    TransferError,
    TransferFault,
    Transport,
)
from pandawn_transports.file import FileTransport
from pandawn_transports.root import RootTransport

TRANSPORTS: Mapping[str, Transport] = {"file": FileTransport(), "root": RootTransport()}


def has_transport(url: str) -> bool:
    """Whether there is a transport for a URL's scheme."""
    return _scheme(url) in TRANSPORTS


def transport_for(url: str, reader: Account | None = None) -> Transport:
    """The transport of a URL. Raises TransferError when there is none for it.

    With a `reader`, files of mounted file systems are read as that account, and not as this program's.
    """
    transport = TRANSPORTS.get(_scheme(url))
    if transport is None:
        raise TransferError(
            TransferFault.NO_TRANSPORT,
            f"there is no transport for {url!r}, only for: {', '.join(sorted(TRANSPORTS))}",
        )
    return transport if reader is None else transport.read_as(reader)


def local_path(url: str) -> Path | None:
    """Where a file lies in a file system of this machine; None: not in one. Raises TransferError."""
    return transport_for(url).local_path(url)


def _scheme(url: str) -> str:
    return url.partition(":")[0]


__all__ = [
    "PASSING",
    "STORAGE_AWAY",
    "TRANSPORTS",
    "Publishing",
    "SourceStat",
    "Stored",
    "TransferError",
    "TransferFault",
    "Transport",
    "has_transport",
    "local_path",
    "transport_for",
]
