"""Transports move files to and from a machine; one plug-in per URL scheme.

A transport is an object with the methods of `Transport`. To add one, write its module here and add it to
`TRANSPORTS`; pilot and command line then use it. The server accepts URLs of any scheme.
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
    """The transport of a URL. Raises TransferError if there is none.

    With a `reader`, files of mounted file systems are read as that account instead of this process's.
    """
    transport = TRANSPORTS.get(_scheme(url))
    if transport is None:
        raise TransferError(
            TransferFault.NO_TRANSPORT,
            f"there is no transport for {url!r}; supported schemes: {', '.join(sorted(TRANSPORTS))}",
        )
    return transport if reader is None else transport.read_as(reader)


def local_path(url: str) -> Path | None:
    """The path of a file in a mounted file system; None for other URLs. Raises TransferError."""
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
