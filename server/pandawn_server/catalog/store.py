"""What the packed catalog asks of the place where it keeps its values: this process, or memcached.

Every value belongs to a *route*, the key of a node's head: all values of a node live on one server,
so that losing a server loses the whole of some nodes and not a part of many. Routes begin
with the 32 hexadecimal digits that spread them over the servers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Protocol

from pandawn_server.catalog.codec import VERSION
from pandawn_server.domain.catalog.inventory import NodeKey


def route_of(key: NodeKey) -> str:
    """The key of a node's head: a digest, because names may be longer than keys and hold anything.

    Each name goes in behind its length, so that no two pairs of names look the same.
    """
    site, node = key.site.encode(), key.node.encode()
    parts = (b"pandawn", bytes([VERSION]), site, node)
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return blake2b(framed, digest_size=16).hexdigest()


def part_key(route: str, part_id: int) -> str:
    """The key of a part; its random id makes sure that no other content ever has this key."""
    return f"{route}-{part_id:016x}"


@dataclass(frozen=True, slots=True)
class Token:
    """Proof of having read a head: `version` as the server counts, None if there was no head."""

    server: str
    version: bytes | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A head as it was read, None if there was none, and what is needed to write its successor."""

    raw: bytes | None
    token: Token


Pulse = tuple[str, ...]
"""How the servers of a store are, in their order; to be compared with another one only."""


class Stored(Enum):
    """What came of a write; after a conflict the head must be read again."""

    DONE = "done"
    CONFLICT = "conflict"
    NO_ROOM = "no_room"


class Store(Protocol):
    """A place for values that may forget any of them, but keeps each whole.

    All methods raise `UnavailableError` when no server is left that answers.
    """

    def read_heads(self, routes: Collection[str]) -> dict[str, bytes]:
        """The heads that there are, by route, in one round trip a server."""
        ...

    def open_heads(self, routes: Collection[str]) -> dict[str, Slot]:
        """As `read_heads`, but one for each route, ready to be written."""
        ...

    def write_head(self, route: str, token: Token, value: bytes) -> Stored:
        """Writes a head if it is still as it was read; its life begins anew."""
        ...

    def read_parts(self, wanted: Mapping[str, Collection[str]]) -> dict[str, bytes]:
        """The parts that there are, by key; `wanted` has the keys by route."""
        ...

    def write_parts(self, route: str, token: Token, values: Mapping[str, bytes]) -> Stored:
        """Writes parts where the head was read."""
        ...

    def drop_parts(self, route: str, token: Token, keys: Collection[str]) -> None:
        """Forgets parts that no head names any more."""
        ...

    def prolong(self, route: str, keys: Iterable[str]) -> bool:
        """Lets the life of a head and of parts begin anew; False if one of them is gone."""
        ...

    def unreachable(self) -> list[str]:
        """Asks each server and returns a sentence for each that does not answer."""
        ...

    def pulse(self) -> Pulse:
        """A cheap look at each server: see `Catalog.pulse`. Does not raise."""
        ...

    def close(self) -> None:
        """Gives back connections."""
        ...
