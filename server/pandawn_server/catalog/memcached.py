"""A store spread over a pool of memcached servers.

Consistent hashing assigns each node to one server. While a server is lost, its nodes move to the next one on the
ring, which does not know them, so their caches must send inventories. When the server comes back it gets its
nodes back, except for those written elsewhere: its values for these are outdated, and an older state must never
reappear.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

from pandawn_server.catalog.member import (
    Connection,
    LostError,
    Member,
    NoRoomError,
    Timeouts,
    delete_keys,
)
from pandawn_server.catalog.ring import Ring
from pandawn_server.catalog.store import Pulse, Slot, Stored, Token
from pandawn_server.domain.errors import UnavailableError

_KEYS_AT_ONCE = 1000
"""Maximum keys per command; a batch of pilots needs fewer, locating a file at a big site more."""

_BYTES_AT_ONCE = 2**20
"""Maximum bytes of values per command, which must be sent within one timeout."""

_RELATIVE_EXPIRY_S = 30 * 24 * 3600
"""Memcached takes longer lifetimes for a point in time, in seconds since 1970."""

_PULSE_KEY = "pandawn-pulse"
"""Key of a random value in each server; it disappears when the server loses its content."""

_LOST = "lost"

_MIN_RETRY_AFTER = timedelta(seconds=1)


class MemcachedStore:
    """A `Store` in memcached. Thread-safe."""

    def __init__(
        self,
        servers: Sequence[tuple[str, int]],
        silence: timedelta,
        timeouts: Timeouts,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Spreads values over servers, given by host and port; values expire after `silence`."""
        self._members = [Member(host, port, timeouts, monotonic) for host, port in servers]
        self._ring = Ring([member.name for member in self._members])
        self._silence_s = max(1, round(silence.total_seconds()))

    def read_heads(self, routes: Collection[str]) -> dict[str, bytes]:
        """See `Store.read_heads`."""
        return self.read_parts({route: (route,) for route in routes})

    def read_parts(self, wanted: Mapping[str, Collection[str]]) -> dict[str, bytes]:
        """See `Store.read_parts`."""
        found: dict[str, bytes] = {}

        def read(_: Member, routes: list[str], connection: Connection) -> None:
            keys = [key for route in routes for key in wanted[route]]
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                found.update(connection.get_many(keys[start : start + _KEYS_AT_ONCE]))

        self._on_members(wanted, read)
        return found

    def open_heads(self, routes: Collection[str]) -> dict[str, Slot]:
        """See `Store.open_heads`."""
        slots: dict[str, Slot] = {}

        def read(member: Member, routes: list[str], connection: Connection) -> None:
            for start in range(0, len(routes), _KEYS_AT_ONCE):
                some = routes[start : start + _KEYS_AT_ONCE]
                found = connection.gets_many(some)
                for route in some:
                    raw, version = found.get(route, (None, None))
                    slots[route] = Slot(raw, Token(member.name, version))

        self._on_members(routes, read)
        return slots

    def write_head(self, route: str, token: Token, value: bytes) -> Stored:
        """See `Store.write_head`."""
        member, skipped = self._home(route)
        # It was read from another server, or one has just come back: read again.
        if member.name != token.server or not all(lost.stray(route) for lost in skipped):
            return Stored.CONFLICT
        write = partial(
            _write_head, route=route, value=value, version=token.version, expire=self._expire()
        )
        return _stored(member, write)

    def write_parts(self, route: str, token: Token, values: Mapping[str, bytes]) -> Stored:
        """See `Store.write_parts`."""
        member, _ = self._home(route)
        if member.name != token.server:
            return Stored.CONFLICT
        return _stored(member, partial(_write_parts, values=values, expire=self._expire()))

    def drop_parts(self, route: str, token: Token, keys: Collection[str]) -> None:
        """See `Store.drop_parts`."""
        member, _ = self._home(route)
        if member.name == token.server:
            _try_delete(member, keys)

    def prolong(self, route: str, keys: Iterable[str]) -> bool:
        """See `Store.prolong`."""
        member, _ = self._home(route)
        expire = self._expire()
        try:
            return member.call(
                lambda connection: all(connection.touch(key, expire) for key in (route, *keys))
            )
        except (LostError, NoRoomError):
            return False

    def unreachable(self) -> list[str]:
        """See `Store.unreachable`."""
        for member in self._members:
            if member.is_lost:
                self._look_after(member)
            else:
                with suppress(LostError, NoRoomError):
                    member.call(lambda connection: connection.version())
        return [member.cause for member in self._members if member.is_lost]

    def pulse(self) -> Pulse:
        """See `Store.pulse`."""
        return tuple(map(self._pulse_of, self._members))

    def _pulse_of(self, member: Member) -> str:
        if member.is_lost and member.rest_left() == 0:
            self._look_after(member)
        try:
            return _LOST if member.is_lost else member.call(_read_pulse)
        except (LostError, NoRoomError):
            return _LOST

    def close(self) -> None:
        """See `Store.close`."""
        for member in self._members:
            member.close()

    def _home(self, route: str) -> tuple[Member, list[Member]]:
        """The current server of a route, and the lost servers before it on the ring."""
        first = self._members[self._ring.first(route)]
        if not first.is_lost:
            return first, []
        skipped: list[Member] = []
        for index in self._ring.walk(route):
            member = self._members[index]
            if member.is_lost and member.rest_left() == 0:
                self._look_after(member)
            if not member.is_lost:
                return member, skipped
            skipped.append(member)
        rest_left = min(member.rest_left() for member in self._members)
        raise UnavailableError(
            "CATALOG_UNAVAILABLE",
            "; ".join(member.cause for member in self._members),
            metadata={"servers": ",".join(member.name for member in self._members)},
            retry_after=max(timedelta(seconds=rest_left), _MIN_RETRY_AFTER),
        )

    def _look_after(self, lost: Member) -> None:
        def forget_elsewhere(routes: Collection[str]) -> None:
            # Only from those after it on the ring, which stand in for it; one before it has priority.
            behind: dict[Member, list[str]] = {}
            for route in routes:
                walk = [self._members[index] for index in self._ring.walk(route)]
                for other in walk[walk.index(lost) + 1 :]:
                    behind.setdefault(other, []).append(route)
            for other, its_routes in behind.items():
                if not _try_delete(other, its_routes):
                    # That server is lost too: its values will be outdated when it comes back.
                    for route in its_routes:
                        other.stray(route)

        lost.look_after(forget_elsewhere)

    def _on_members(
        self, routes: Iterable[str], run: Callable[[Member, list[str], Connection], None]
    ) -> None:
        """Runs commands on each server for its routes, and on the next server for those of a lost one."""
        left = list(routes)
        while left:
            by_member: dict[Member, list[str]] = {}
            for route in left:
                by_member.setdefault(self._home(route)[0], []).append(route)
            left = []
            for member, its_routes in by_member.items():
                try:
                    member.call(partial(run, member, its_routes))
                except LostError:
                    left += its_routes
                except NoRoomError as error:
                    raise UnavailableError(
                        "CATALOG_UNAVAILABLE",
                        f"memcached {member.name} cannot answer: {error}",
                        metadata={"servers": member.name},
                        retry_after=_MIN_RETRY_AFTER,
                    ) from error

    def _expire(self) -> int:
        if self._silence_s <= _RELATIVE_EXPIRY_S:
            return self._silence_s
        return int(time.time()) + self._silence_s


def _write_head(
    connection: Connection, route: str, value: bytes, version: bytes | None, expire: int
) -> bool:
    if version is None:
        return bool(connection.add(route, value, expire=expire))
    return bool(connection.cas(route, value, version, expire=expire))


def _write_parts(connection: Connection, values: Mapping[str, bytes], expire: int) -> bool:
    some: dict[str, bytes] = {}
    size = 0
    for key, value in values.items():
        if size + len(value) > _BYTES_AT_ONCE:
            connection.set_many(some, expire=expire)
            some, size = {}, 0
        some[key] = value
        size += len(value)
    connection.set_many(some, expire=expire)
    return True


def _read_pulse(connection: Connection) -> str:
    found = connection.get(_PULSE_KEY)
    if found is None:
        # Another process may be faster: then its value counts.
        connection.add(_PULSE_KEY, secrets.token_bytes(8), expire=0)
        found = connection.get(_PULSE_KEY)
    return found.hex() if isinstance(found, bytes) else ""


def _stored(member: Member, write: Callable[[Connection], bool]) -> Stored:
    try:
        return Stored.DONE if member.call(write) else Stored.CONFLICT
    except LostError:
        # Written or not: the next read will show, on another server.
        return Stored.CONFLICT
    except NoRoomError:
        return Stored.NO_ROOM


def _try_delete(member: Member, keys: Collection[str]) -> bool:
    if member.is_lost:
        return False
    try:
        member.call(partial(delete_keys, keys=keys))
    except (LostError, NoRoomError):
        return False
    return True
