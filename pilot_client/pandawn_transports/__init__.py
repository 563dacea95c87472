"""Ways to bring files to a node and away from it, one plug-in a URL scheme.

A transport is an object with the methods of `Transport`; `TRANSPORTS` names those that the pilot
has.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def transport_for(url: str, reader: Account | None = None) -> Transport:
    """The transport of a URL. Raises TransferError when the pilot has none for it.

    With a `reader`, files of mounted file systems are read as that account, and not as the pilot.
    """
    scheme = url.partition(":")[0]
    transport = TRANSPORTS.get(scheme)
    if reader is not None and scheme == "file":
        return FileTransport(reader)
    if transport is None:
        raise TransferError(
            TransferFault.NO_TRANSPORT,
            f"this pilot has no transport for {url!r}; it has: {', '.join(sorted(TRANSPORTS))}",
        )
    return transport


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
    "transport_for",
]
