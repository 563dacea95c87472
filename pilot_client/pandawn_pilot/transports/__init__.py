"""Ways to bring files to a node and away from it, one plug-in a URL scheme.

A transport is an object with the methods of `Transport`; `TRANSPORTS` names those that the pilot
has.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pandawn_pilot.transports.base import PASSING, TransferError, TransferFault, Transport
from pandawn_pilot.transports.file import FileTransport
from pandawn_pilot.transports.root import RootTransport

TRANSPORTS: Mapping[str, Transport] = {"file": FileTransport(), "root": RootTransport()}
_FOR_OTHERS: Mapping[str, Transport] = {**TRANSPORTS, "file": FileTransport(for_others=True)}


def transport_for(url: str, *, for_others: bool = False) -> Transport:
    """The transport of a URL. Raises TransferError when the pilot has none for it.

    One `for_others` fetches what everybody may read, and not what only the pilot may.
    """
    scheme = urlsplit(url).scheme
    transport = (_FOR_OTHERS if for_others else TRANSPORTS).get(scheme)
    if transport is None:
        raise TransferError(
            TransferFault.NO_TRANSPORT,
            f"this pilot has no transport for {url!r}; it has: {', '.join(sorted(TRANSPORTS))}",
        )
    return transport


__all__ = ["PASSING", "TRANSPORTS", "TransferError", "TransferFault", "Transport", "transport_for"]
