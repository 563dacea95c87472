"""A store in this process: limited in bytes, evicting the least recently used."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock

from pandawn_server.catalog.store import Pulse, Slot, Stored, Token

_OVERHEAD_BYTES = 200
"""Counted per value in addition to its bytes: the key, the objects and the map entry."""


@dataclass(frozen=True, slots=True)
class _Item:
    value: bytes
    version: int
    expires_at: float

    @property
    def cost(self) -> int:
        return len(self.value) + _OVERHEAD_BYTES


class MemoryStore:
    """A `Store` that behaves like one memcached. Thread-safe."""

    def __init__(
        self,
        silence: timedelta,
        max_bytes: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Values expire after `silence`; the oldest are evicted above `max_bytes`."""
        self._silence_s = silence.total_seconds()
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._items: OrderedDict[str, _Item] = OrderedDict()
        self._bytes = 0
        self._last_version = 0
        self._lock = Lock()

    def read_heads(self, routes: Collection[str]) -> dict[str, bytes]:
        """See `Store.read_heads`."""
        with self._lock:
            found = {route: self._get(route) for route in routes}
        return {route: item.value for route, item in found.items() if item}

    def open_heads(self, routes: Collection[str]) -> dict[str, Slot]:
        """See `Store.open_heads`."""
        with self._lock:
            found = {route: self._get(route) for route in routes}
        return {
            route: Slot(item.value, _token(item.version)) if item else Slot(None, _token(None))
            for route, item in found.items()
        }

    def write_head(self, route: str, token: Token, value: bytes) -> Stored:
        """See `Store.write_head`."""
        with self._lock:
            item = self._get(route)
            if token != _token(item.version if item else None):
                return Stored.CONFLICT
            return Stored.DONE if self._put(route, value) else Stored.NO_ROOM

    def read_parts(self, wanted: Mapping[str, Collection[str]]) -> dict[str, bytes]:
        """See `Store.read_parts`."""
        return self.read_heads([key for keys in wanted.values() for key in keys])

    def write_parts(self, route: str, token: Token, values: Mapping[str, bytes]) -> Stored:
        """See `Store.write_parts`."""
        del route, token
        with self._lock:
            fits = all(self._put(key, value) for key, value in values.items())
        return Stored.DONE if fits else Stored.NO_ROOM

    def drop_parts(self, route: str, token: Token, keys: Collection[str]) -> None:
        """See `Store.drop_parts`."""
        del route, token
        with self._lock:
            for key in keys:
                self._remove(key)

    def prolong(self, route: str, keys: Iterable[str]) -> bool:
        """See `Store.prolong`."""
        with self._lock:
            for key in (route, *keys):
                item = self._get(key)
                if item is None:
                    return False
                self._items[key] = _Item(item.value, item.version, self._end_of_life())
        return True

    def unreachable(self) -> list[str]:
        """See `Store.unreachable`."""
        return []

    def pulse(self) -> Pulse:
        """See `Store.pulse`."""
        return ()

    def close(self) -> None:
        """See `Store.close`."""

    def _get(self, key: str) -> _Item | None:
        item = self._items.get(key)
        if item is None:
            return None
        if item.expires_at <= self._monotonic():
            self._remove(key)
            return None
        self._items.move_to_end(key)
        return item

    def _put(self, key: str, value: bytes) -> bool:
        self._remove(key)
        self._last_version += 1
        item = _Item(value, self._last_version, self._end_of_life())
        if item.cost > self._max_bytes:
            return False
        self._items[key] = item
        self._bytes += item.cost
        while self._bytes > self._max_bytes:
            _, oldest = self._items.popitem(last=False)
            self._bytes -= oldest.cost
        return True

    def _remove(self, key: str) -> None:
        item = self._items.pop(key, None)
        if item is not None:
            self._bytes -= item.cost

    def _end_of_life(self) -> float:
        return self._monotonic() + self._silence_s


def _token(version: int | None) -> Token:
    return Token("this process", None if version is None else str(version).encode())
