"""The waiting jobs of one band that a node holds most of."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace, nsmallest
from typing import Final

from pandawn_server.domain.dispatch.entries import Block, Entry, Pick
from pandawn_server.domain.dispatch.files import shares as shares_of
from pandawn_server.domain.dispatch.matching import Needs, fits
from pandawn_server.domain.dispatch.nodes import Node
from pandawn_server.domain.leases.attempts import MatchRule

WORTH: Final = 0.1
"""Part of its bytes that a node must hold to draw a job; what all nodes hold would draw it everywhere."""

QUEUE_ENTRIES: Final = 1024
"""Jobs entered in a list of a node, the worse half of which is dropped beyond that."""

_LOOKS: Final = 16
"""How many jobs at the head of a node's list are looked at for one that still fits best here."""

_COMING_SHIFT: Final = 4
"""Bytes on their way count as a sixteenth still to move: nearly there."""

_LATE, _DUE, _FRESH = -1, 0, 1

_Heap = list[tuple[int, int, Entry]]


class NodeQueue:
    """Jobs that a node holds most of.

    `late` are those that were overtaken for so long that they are next, left to this node for a last while, oldest
    first; `due` the others whose turn by age has come, by the bytes that would be moved elsewhere;
    `fresh` the rest, by the bytes left to move here. `block` is what the node has begun.
    """

    __slots__ = ("_node", "block", "due", "fresh", "late")

    def __init__(self, node: Node) -> None:
        self._node = node
        self.late: _Heap = []
        self.due: _Heap = []
        self.fresh: _Heap = []
        self.block: Block | None = None

    def nominate(self, entry: Entry) -> None:
        """Enters a job that reads some of the node's files, if that makes enough of them."""
        files, coming = self._node.files, self._node.coming
        local = on_way = 0
        for file in entry.files:
            if file.number in files:
                local += file.size
            elif file.number in coming:
                local += file.size
                on_way += file.size
        if local and local >= WORTH * entry.total:
            self.push(entry, local, on_way)

    def push(self, entry: Entry, local: int, on_way: int) -> None:
        """Enters a job of which `local` bytes are here, `on_way` of these soon."""
        if entry.turn:
            _push(self.due, (-local, entry.ordinal, entry))
        else:
            left = entry.total - local + (on_way >> _COMING_SHIFT)
            _push(self.fresh, (left, entry.ordinal, entry))

    def push_late(self, entry: Entry) -> None:
        """Enters a job that is to be the next one here."""
        _push(self.late, (0, entry.ordinal, entry))

    def best(self, offer: Needs) -> Pick | None:
        """The job that the node holds most of, among all nodes, and that leaves least to do.

        First those that are late, then of those whose turn by age has come the one that would cost most elsewhere;
        else the one with the fewest bytes left to move. The lists are as old as their entries: each is looked at again.
        """
        late = self._first(self.late, _LATE, offer) if self.late else None
        return late or self._first(self.due, _DUE, offer) or self._first(self.fresh, _FRESH, offer)

    def _first(self, heap: _Heap, tier: int, offer: Needs) -> Pick | None:
        node = self._node
        aside: _Heap = []
        found: Pick | None = None
        looks = 0
        while heap and looks < _LOOKS:
            cost, ordinal, entry = heap[0]
            if not entry.alive:
                heappop(heap)
                continue
            if tier == _FRESH and entry.turn:
                heappop(heap)
                self.nominate(entry)
                continue
            looks += 1
            if not fits(entry.needs, offer):
                aside.append(heappop(heap))
                continue
            shares = shares_of(entry.files)
            here = shares.get(node.number, 0)
            most = max(shares.values(), default=0)
            block = entry.block
            begun = block is not None and block.owner is node
            if (here < most or here < WORTH * entry.total) and not begun:
                heappop(heap)
                continue
            now_cost = self._cost(entry, here, tier)
            if now_cost > cost:
                heapreplace(heap, (now_cost, ordinal, entry))
                continue
            found = Pick(tier, now_cost, ordinal, entry, self._rule(entry, here, tier))
            break
        # Those that fit no offer of the node would be all that is ever looked at; it finds them again by its files.
        if looks < _LOOKS or found is not None:
            for item in aside:
                heappush(heap, item)
        return found

    def _cost(self, entry: Entry, here: int, tier: int) -> int:
        if tier == _LATE:
            return 0
        if tier == _DUE:
            return -here
        coming = self._node.coming
        left = entry.total - here
        if coming:
            on_way = sum([file.size for file in entry.files if file.number in coming])
            left += on_way >> _COMING_SHIFT
        return left

    def _rule(self, entry: Entry, here: int, tier: int) -> MatchRule:
        if entry.promised_to is self._node or (tier == _LATE and here):
            return MatchRule.HELD
        return MatchRule.LOCAL_BYTES if here else MatchRule.NEIGHBOUR

    def sweep(self) -> bool:
        """Gives up jobs that no longer wait; returns whether anything is left."""
        for heap in (self.late, self.due, self.fresh):
            heap[:] = [item for item in heap if item[2].alive]
            heapify(heap)
        return bool(self.late or self.due or self.fresh or self.block)


def _push(heap: _Heap, item: tuple[int, int, Entry]) -> None:
    heappush(heap, item)
    if len(heap) > QUEUE_ENTRIES:
        heap[:] = nsmallest(QUEUE_ENTRIES // 2, (kept for kept in heap if kept[2].alive))
