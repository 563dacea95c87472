"""The interface of the store behind the packed catalog: this process, or memcached.

Every value belongs to a *route*, the key of a node's head. All values of a node are on one server, so losing a
server loses some nodes entirely, not a part of many. Routes begin with 32 hexadecimal digits, which spread
them over the servers.
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
    """The key of a node's head: a digest, because names may be longer than keys and contain anything.

    Each name is preceded by its length, so that different pairs of names never look the same.
    """
    site, node = key.site.encode(), key.node.encode()
    parts = (b"pandawn", bytes([VERSION]), site, node)
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return blake2b(framed, digest_size=16).hexdigest()


def part_key(route: str, part_id: int) -> str:
    """The key of a part; its random id ensures that no other content ever has this key."""
    return f"{route}-{part_id:016x}"


@dataclass(frozen=True, slots=True)
class Token:
    """Proof of having read a head: the server's `version`, None if there was no head."""

    server: str
    version: bytes | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A head as read, None if there was none, and the token for writing its successor."""

    raw: bytes | None
    token: Token


Pulse = tuple[str, ...]
"""The state of a store's servers, in order; only for comparison with another one."""


class Stored(Enum):
    """The result of a write; after a conflict the head must be read again."""

    DONE = "done"
    CONFLICT = "conflict"
    NO_ROOM = "no_room"


class Store(Protocol):
    """Keeps values; may lose any of them, but never part of one.

    All methods raise `UnavailableError` if no server answers any more.
    """

    def read_heads(self, routes: Collection[str]) -> dict[str, bytes]:
        """The existing heads, by route, in one round trip per server."""
        ...

    def open_heads(self, routes: Collection[str]) -> dict[str, Slot]:
        """Like `read_heads`, but with one slot per route, ready for writing."""
        ...

    def write_head(self, route: str, token: Token, value: bytes) -> Stored:
        """Writes a head if it is unchanged since it was read; its lifetime starts again."""
        ...

    def read_parts(self, wanted: Mapping[str, Collection[str]]) -> dict[str, bytes]:
        """The existing parts, by key; `wanted` has the keys by route."""
        ...

    def write_parts(self, route: str, token: Token, values: Mapping[str, bytes]) -> Stored:
        """Writes parts to the server from which the head was read."""
        ...

    def drop_parts(self, route: str, token: Token, keys: Collection[str]) -> None:
        """Deletes parts that no head refers to any more."""
        ...

    def prolong(self, route: str, keys: Iterable[str]) -> bool:
        """Restarts the lifetime of a head and its parts; returns False if one of them is gone."""
        ...

    def unreachable(self) -> list[str]:
        """Contacts each server; returns a sentence for each that does not answer."""
        ...

    def pulse(self) -> Pulse:
        """The state of each server, read cheaply: see `Catalog.pulse`. Does not raise."""
        ...

    def close(self) -> None:
        """Closes connections."""
        ...
