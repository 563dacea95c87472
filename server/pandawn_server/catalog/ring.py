"""Consistent hashing: the server for a route, and the next one when that is lost."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b

_POINTS_PER_SERVER = 160
"""Points of each server on the ring: enough that the shares of three differ by about a tenth."""


class Ring:
    """Places servers by name on a ring of 64-bit numbers; a route belongs to the next server.

    Removing a server moves only its own routes, evenly to all others.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        """The order of `servers` does not matter, but their spelling does: use the same everywhere."""
        points = sorted(
            (_place(f"{server}#{number}"), index)
            for index, server in enumerate(servers)
            for number in range(_POINTS_PER_SERVER)
        )
        self._places = [place for place, _ in points]
        self._servers = [index for _, index in points]
        self._count = len(servers)

    def first(self, route: str) -> int:
        """The index of the server that owns a route."""
        return self._servers[self._start(route)]

    def walk(self, route: str) -> Iterator[int]:
        """The indices of the servers in the order in which to try them for a route."""
        start = self._start(route)
        seen: set[int] = set()
        for step in range(len(self._servers)):
            index = self._servers[(start + step) % len(self._servers)]
            if index not in seen:
                yield index
                seen.add(index)
                if len(seen) == self._count:
                    return

    def _start(self, route: str) -> int:
        return bisect_right(self._places, int(route[:16], 16)) % len(self._places)


def _place(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
