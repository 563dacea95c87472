"""The waiting jobs of one band that are listed at one node, because it holds most of their input."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace, nsmallest
from typing import Final

from pandawn_server.domain.dispatch.entries import Block, Entry, Pick
from pandawn_server.domain.dispatch.files import shares as shares_of
from pandawn_server.domain.dispatch.matching import Needs, fits
from pandawn_server.domain.dispatch.nodes import Node
from pandawn_server.domain.leases.attempts import MatchRule

WORTH: Final = 0.1
"""Minimum part of a job's bytes that attracts it to a node: files that all nodes hold would attract it everywhere."""

QUEUE_ENTRIES: Final = 1024
"""Maximum length of a node's list; beyond it the worse half is dropped."""

_LOOKS: Final = 16
"""Jobs examined at the head of a node's list, to find one that still fits best here."""

_COMING_SHIFT: Final = 4
"""Bytes on their way count as a sixteenth of bytes to move: they are nearly there."""

_LATE, _DUE, _FRESH = -1, 0, 1

_Heap = list[tuple[int, int, Entry]]


class NodeQueue:
    """Jobs of which one node holds most.

    `late`: overdue jobs that stay reserved for this node a little longer, oldest first. `due`: other jobs
    whose turn by age has come, ordered by the bytes that another node would have to move. `fresh`: the
    rest, ordered by the bytes left to move here. `block`: the block that the node has started.
    """

    __slots__ = ("_node", "block", "due", "fresh", "late")

    def __init__(self, node: Node) -> None:
        self._node = node
        self.late: _Heap = []
        self.due: _Heap = []
        self.fresh: _Heap = []
        self.block: Block | None = None

    def nominate(self, entry: Entry) -> None:
        """Lists a job that reads some of the node's files, if the node holds enough of it."""
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
        """Lists a job with `local` bytes here, `on_way` of them still in transfer."""
        if entry.turn:
            _push(self.due, (-local, entry.ordinal, entry))
        else:
            left = entry.total - local + (on_way >> _COMING_SHIFT)
            _push(self.fresh, (left, entry.ordinal, entry))

    def push_late(self, entry: Entry) -> None:
        """Lists a job that is next here."""
        _push(self.late, (0, entry.ordinal, entry))

    def best(self, offer: Needs) -> Pick | None:
        """The best job for this node, among those that no other node holds more of.

        Late jobs come first, then the due job that costs most elsewhere, then the job with the fewest bytes
        left to move. Entries go stale in the lists, so each is checked again.
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
        # Otherwise jobs that fit no offer here would block the head. The node finds them again by their files.
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
        """Drops jobs that no longer wait; returns whether anything is left."""
        for heap in (self.late, self.due, self.fresh):
            heap[:] = [item for item in heap if item[2].alive]
            heapify(heap)
        return bool(self.late or self.due or self.fresh or self.block)


def _push(heap: _Heap, item: tuple[int, int, Entry]) -> None:
    heappush(heap, item)
    if len(heap) > QUEUE_ENTRIES:
        heap[:] = nsmallest(QUEUE_ENTRIES // 2, (kept for kept in heap if kept[2].alive))
