"""The connections of this process, as the kernel has them: gRPC tells nobody of those that it accepts.

A connection is known by the number of its socket (inode), which no other gets while it lives. Descriptors may
be closed and given to another file at any moment by gRPC's threads: what is done to a connection is done
through a duplicate that was looked at first.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pandawn_server.wire.auth.peers import Address, parse_address

_DIRECTORY = "/proc/self/fd"
_SOCKET = "socket:["


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection."""

    address: Address
    port: int


class OwnSockets:
    """Connections that were accepted at some ports. For one thread."""

    def __init__(self, ports: Collection[int]) -> None:
        self._ports = frozenset(ports)
        # None for sockets that are something else; what a socket is never changes.
        self._known: dict[int, Peer | None] = {}
        self._descriptors: dict[int, int] = {}

    @staticmethod
    def can_be_seen() -> bool:
        """Whether this system tells a process of its sockets."""
        return os.path.isdir(_DIRECTORY)  # noqa: PTH112 (a constant)

    def look(self) -> dict[int, Peer]:
        """The connections that there are now, by the numbers of their sockets."""
        found: dict[int, int] = {}
        for name in os.listdir(_DIRECTORY):  # noqa: PTH208 (half the time, for thousands)
            try:
                target = os.readlink(f"{_DIRECTORY}/{name}")  # noqa: PTH115 (as above)
            except OSError:
                continue  # closed since, or what the list itself was read through
            if target.startswith(_SOCKET):
                found[int(target[len(_SOCKET) : -1])] = int(name)
        self._descriptors = found
        self._known = {
            number: self._known[number] if number in self._known else self._peer(number)
            for number in found
        }
        return {number: peer for number, peer in self._known.items() if peer is not None}

    def cut(self, number: int) -> None:
        """Ends a connection of the last look, if it is still there; whoever serves it sees it end."""
        with self._opened(number) as found, contextlib.suppress(OSError):
            if found is not None:
                found.shutdown(socket.SHUT_RDWR)

    def _peer(self, number: int) -> Peer | None:
        with self._opened(number) as found:
            if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
                return None
            try:
                if found.getsockname()[1] not in self._ports:
                    return None
                host, port = found.getpeername()[:2]
            except OSError:
                return None  # it listens, or has gone
        # An address of the link (`%eth0`) is one of a neighbour: as good as any.
        address = parse_address(host.partition("%")[0])
        return None if address is None else Peer(address, port)

    @contextmanager
    def _opened(self, number: int) -> Iterator[socket.socket | None]:
        try:
            duplicate = os.dup(self._descriptors[number])
        except (KeyError, OSError):
            yield None
            return
        try:
            if os.fstat(duplicate).st_ino != number:
                yield None
                return
            found = socket.socket(fileno=duplicate)
        except OSError:
            os.close(duplicate)
            yield None
            return
        with found:
            yield found
