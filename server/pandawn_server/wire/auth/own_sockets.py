"""The connections of this process, read from the kernel, because gRPC does not report those it accepts.

A connection is known by its socket's inode number, unique while it lives. gRPC's threads may close descriptors
and reuse them at any moment, so each operation works on a duplicate, after checking the inode.
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
    """The connections accepted at some ports. For one thread."""

    def __init__(self, ports: Collection[int]) -> None:
        self._ports = frozenset(ports)
        # None for other sockets; a socket's kind never changes.
        self._known: dict[int, Peer | None] = {}
        self._descriptors: dict[int, int] = {}

    @staticmethod
    def can_be_seen() -> bool:
        """Whether this system lets a process list its sockets."""
        return os.path.isdir(_DIRECTORY)  # noqa: PTH112 (a constant)

    def look(self) -> dict[int, Peer]:
        """The open connections, by the inode numbers of their sockets."""
        found: dict[int, int] = {}
        for name in os.listdir(_DIRECTORY):  # noqa: PTH208 (half the time, for thousands)
            try:
                target = os.readlink(f"{_DIRECTORY}/{name}")  # noqa: PTH115 (as above)
            except OSError:
                continue  # closed meanwhile, or the descriptor of this listing
            if target.startswith(_SOCKET):
                found[int(target[len(_SOCKET) : -1])] = int(name)
        self._descriptors = found
        self._known = {
            number: self._known[number] if number in self._known else self._peer(number)
            for number in found
        }
        return {number: peer for number, peer in self._known.items() if peer is not None}

    def cut(self, number: int) -> None:
        """Shuts down a connection of the last `look`, if it is still open; its server sees it end."""
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
                return None  # a listening socket, or one that is closed
        # The zone of a link-local address (`%eth0`) does not matter here.
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
