"""Requests that wait for work; the node with most free slots is served first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from operator import gt

from pandawn_server.domain.dispatch.entries import NeedsClass
from pandawn_server.domain.dispatch.matching import Needs, fits, offered
from pandawn_server.domain.dispatch.nodes import Node
from pandawn_server.domain.dispatch.values import Request

_REMEMBERED = 64
"""How many needs to remember that no waiting request meets."""


class Asking:
    """A request, with its remaining count and its offer in numbers."""

    __slots__ = ("doubts", "kind", "left", "node", "offer", "request")

    def __init__(self, request: Request, node: Node) -> None:
        self.request = request
        self.node = node
        self.left = request.count
        self.offer = offered(request.offer)
        self.kind = NeedsClass.of(self.offer)
        # Users whose jobs it does not get; `Matchmaker.ask` clears this when its node is the only one.
        self.doubts = request.doubts


class _Kind:
    """Waiting requests with offers of similar size, by node, and the nodes by their number of free slots."""

    __slots__ = ("_by_count", "most", "of_node")

    def __init__(self) -> None:
        self.of_node: dict[Node, dict[str, Asking]] = {}
        self._by_count: dict[int, dict[Node, None]] = {}
        self.most = 0

    def count(self, node: Node) -> int:
        return sum(asking.left for asking in self.of_node.get(node, {}).values())

    def move(self, node: Node, old: int, new: int) -> None:
        if old:
            bucket = self._by_count[old]
            del bucket[node]
            if not bucket:
                del self._by_count[old]
        if new:
            self._by_count.setdefault(new, {})[node] = None
        self.most = max(self._by_count, default=0) if old == self.most else max(self.most, new)

    def idlest(self) -> Iterator[Node]:
        for count in sorted(self._by_count, reverse=True):
            yield from self._by_count[count]


class IdlePool:
    """Requests that have found no job so far."""

    def __init__(self) -> None:
        self._kinds: dict[NeedsClass, _Kind] = {}
        self._by_id: dict[str, Asking] = {}
        # Needs that none of the requests meets, until another request comes: similar jobs arrive together.
        self._unmet: list[Needs] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def some(self, limit: int) -> list[Asking]:
        """Up to `limit` of the waiting requests, oldest first."""
        return list(islice(self._by_id.values(), limit))

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._by_id

    def add(self, asking: Asking) -> None:
        """Adds a waiting request; replaces one with the same identifier."""
        self.remove(asking.request.request_id)
        kind = self._kinds.setdefault(asking.kind, _Kind())
        node = asking.node
        old = kind.count(node)
        kind.of_node.setdefault(node, {})[asking.request.request_id] = asking
        kind.move(node, old, old + asking.left)
        node.idle += asking.left
        self._by_id[asking.request.request_id] = asking
        self._unmet.clear()

    def remove(self, request_id: str) -> None:
        """Removes a request, if it waits."""
        asking = self._by_id.pop(request_id, None)
        if asking is None:
            return
        kind, node = self._kinds[asking.kind], asking.node
        old = kind.count(node)
        mine = kind.of_node[node]
        del mine[request_id]
        if not mine:
            del kind.of_node[node]
        kind.move(node, old, old - asking.left)
        node.idle -= asking.left
        if not kind.of_node:
            del self._kinds[asking.kind]

    def of_node(self, node: Node) -> list[Asking]:
        """The waiting requests of a node."""
        return [
            asking
            for kind in self._kinds.values()
            for asking in kind.of_node.get(node, {}).values()
        ]

    def fitting(self, needs: Needs, node: Node, user: str) -> Asking | None:
        """A waiting request of the node that meets the needs and does not doubt the user."""
        for kind in self._kinds.values():
            for asking in kind.of_node.get(node, {}).values():
                if fits(needs, asking.offer) and user not in asking.doubts:
                    return asking
        return None

    def idlest(self, needs: Needs, user: str) -> Asking | None:
        """A request that meets the needs and does not doubt the user, on the node with most free slots."""
        if any(fits(unmet, needs) for unmet in self._unmet):
            return None
        best: Asking | None = None
        for offers, kind in self._kinds.items():
            if any(map(gt, NeedsClass.of(needs), offers)):
                continue
            if best is not None and kind.most <= best.node.idle:
                continue
            for node in kind.idlest():
                found = next(
                    (
                        a
                        for a in kind.of_node[node].values()
                        if fits(needs, a.offer) and user not in a.doubts
                    ),
                    None,
                )
                if found is not None:
                    if best is None or node.idle > best.node.idle:
                        best = found
                    break
        # While a request doubts some user, these needs may still be met for another user.
        doubts = any(asking.doubts for asking in self._by_id.values()) if best is None else False
        if best is None and not doubts and len(self._unmet) < _REMEMBERED:
            self._unmet.append(needs)
        return best
