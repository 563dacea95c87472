"""Simulates the reports of caches to the server, which may be late, lost or incomplete, and how it detects that.

The rules are the catalog's own: sequenced deltas (`inventory.delta_result`), digests compared at each contact
(`catalog.lag`), a full inventory on request. This module only injects the faults that test them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Final, NamedTuple

from pandawn_server.catalog.lag import LagWatch
from pandawn_server.domain.catalog.inventory import (
    CacheState,
    Delta,
    DeltaResult,
    NodeKey,
    delta_result,
)
from pandawn_server.domain.dispatch.engine import Matchmaker
from pandawn_tools.simulate.cluster import Node

CONTACT_S: Final = 60.0
"""Time from a change until a node's digest is compared. Conservative: pilots renew leases every 10 s."""

_DIGEST_BITS: Final = (1 << 64) - 1
_SALT: Final = 0x5BD1E995


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults of the catalog: reports are `stale_s` late, and a fraction `lost` of the deltas never arrives.

    In each interval of `down` (start and end, in seconds) it is unavailable, and afterwards it is empty.
    """

    stale_s: float = 0.0
    lost: float = 0.0
    down: tuple[tuple[float, float], ...] = ()


@dataclass(slots=True)
class _Cache:
    """The true state of a cache. `contact_at` is when its digest will be compared, if planned."""

    node: Node
    key: NodeKey
    epoch: int = 1
    sequence: int = 0
    digest: int = 0
    contact_at: float | None = None
    inventory_sent: bool = False

    @property
    def state(self) -> CacheState:
        return CacheState(self.epoch, self.sequence, self.digest)


class _Delta(NamedTuple):
    key: NodeKey
    epoch: int
    sequence: int
    added: Sequence[int]
    deleted: Sequence[int]


class _Inventory(NamedTuple):
    key: NodeKey
    state: CacheState
    files: Sequence[int]


class _Contact(NamedTuple):
    key: NodeKey
    at: float


class _Loss(NamedTuple):
    """The catalog becomes unavailable, and loses its content."""


_Message = _Delta | _Inventory | _Contact | _Loss


class Reports:
    """Feeds a matchmaker with what the catalog knows. Times are seconds of the simulation."""

    def __init__(
        self,
        matchmaker: Matchmaker,
        nodes: Sequence[tuple[Node, NodeKey]],
        faults: Faults,
        seed: int,
        at_time: Callable[[float], datetime],
    ) -> None:
        self._matchmaker = matchmaker
        self._faults = faults
        self._draw = random.Random(seed)
        self._at_time = at_time
        self._caches = {key: _Cache(node, key) for node, key in nodes}
        self._known: dict[NodeKey, CacheState] = {}
        self._lags = LagWatch()
        self._messages: list[tuple[float, int, _Message]] = []
        self._sent = 0
        for begin, _ in faults.down:
            self._send(begin, _Loss())

    def changed(
        self, key: NodeKey, added: Sequence[int], deleted: Sequence[int], now: float
    ) -> None:
        """A cache has added and evicted files: it reports a delta, and its digest is compared soon."""
        cache = self._caches[key]
        cache.sequence += 1
        cache.digest ^= _digest(added) ^ _digest(deleted)
        delta = _Delta(key, cache.epoch, cache.sequence, added, deleted)
        if self._draw.random() >= self._faults.lost:
            if self._faults.stale_s:
                self._send(now + self._faults.stale_s, delta)
            else:
                self._take_delta(delta, now)
        self._plan_contact(cache, now)

    def wiped(self, key: NodeKey, now: float) -> None:
        """A cache starts a new epoch, empty."""
        cache = self._caches[key]
        cache.epoch += 1
        cache.sequence = cache.digest = 0
        cache.inventory_sent = False
        self._compare(cache, now)

    def advance(self, now: float) -> None:
        """Handles all messages that are due."""
        while self._messages and self._messages[0][0] <= now:
            message = heappop(self._messages)[2]
            match message:
                case _Delta():
                    self._take_delta(message, now)
                case _Inventory():
                    self._take_inventory(message, now)
                case _Contact():
                    cache = self._caches[message.key]
                    if cache.contact_at == message.at:
                        self._compare(cache, now)
                case _Loss():
                    self._known.clear()
                    for key in self._caches:
                        self._matchmaker.forget(key)

    def next_due(self) -> float | None:
        """When the next message is due; None if there is none."""
        return self._messages[0][0] if self._messages else None

    def _send(self, at: float, message: _Message) -> None:
        self._sent += 1
        heappush(self._messages, (at, self._sent, message))

    def _plan_contact(self, cache: _Cache, now: float) -> None:
        if cache.contact_at is None:
            cache.contact_at = now + CONTACT_S
            self._send(cache.contact_at, _Contact(cache.key, cache.contact_at))

    def _is_down(self, now: float) -> bool:
        return any(begin <= now < end for begin, end in self._faults.down)

    def _take_delta(self, delta: _Delta, now: float) -> None:
        if self._is_down(now):
            return
        known = self._known.get(delta.key)
        result = delta_result(known, Delta(delta.key, delta.epoch, delta.sequence))
        if result is DeltaResult.INVENTORY_REQUESTED:
            self._ask_inventory(self._caches[delta.key], now)
        if result is not DeltaResult.APPLIED:
            return
        digest = known.digest if known is not None and known.epoch == delta.epoch else 0
        digest ^= _digest(delta.added) ^ _digest(delta.deleted)
        self._known[delta.key] = CacheState(delta.epoch, delta.sequence, digest)
        self._matchmaker.change(delta.key, delta.epoch, delta.sequence, delta.added, delta.deleted)

    def _compare(self, cache: _Cache, now: float) -> None:
        cache.contact_at = None
        # A failed node has no contact until it is repaired.
        if not cache.node.up:
            return
        known = self._known.get(cache.key)
        if not self._is_down(now) and self._lags.needs_inventory(
            cache.key, known, cache.state, self._at_time(now)
        ):
            self._ask_inventory(cache, now)
            known = self._known.get(cache.key)
        if known != cache.state:
            self._plan_contact(cache, now)

    def _ask_inventory(self, cache: _Cache, now: float) -> None:
        if cache.inventory_sent:
            return
        inventory = _Inventory(cache.key, cache.state, tuple(cache.node.cache))
        if self._faults.stale_s:
            cache.inventory_sent = True
            self._send(now + self._faults.stale_s, inventory)
        else:
            self._take_inventory(inventory, now)

    def _take_inventory(self, inventory: _Inventory, now: float) -> None:
        key, state, files = inventory
        self._caches[key].inventory_sent = False
        if self._is_down(now):
            return
        self._known[key] = state
        self._matchmaker.inventory(key, state.epoch, state.sequence, files)


def _digest(files: Sequence[int]) -> int:
    digest = 0
    for file in files:
        # Any hash is good enough here; the catalog's own needs names, which models do not have.
        digest ^= hash((file, _SALT))
    return digest & _DIGEST_BITS
