"""A bounded least-recently-used map, shared by threads."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps values up to a total cost and evicts the least recently used."""

    def __init__(self, max_cost: int) -> None:
        self._max_cost = max_cost
        self._cost = 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """The value of a key; this counts as a use."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, cost: int = 1) -> None:
        """Adds a value, unless it alone exceeds the bound."""
        with self._lock:
            self._remove(key)
            if cost > self._max_cost:
                return
            self._values[key] = (value, cost)
            self._cost += cost
            while self._cost > self._max_cost:
                _, (_, freed) = self._values.popitem(last=False)
                self._cost -= freed

    def drop(self, key: K) -> None:
        """Removes a key, if it is there."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: K) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._cost -= found[1]
