"""The waiting jobs of one band that a node holds most of."""

from __future__ import annotations

from heapq import heapify

from pandawn_server.domain.brokerage.entries import Block, Entry


class NodeQueue:
    """Jobs that a node holds most of.

    `due` are those whose turn by age has come, by the bytes that would be moved elsewhere;
    `fresh` the others, by the bytes left to move here. `block` is what the node has begun.
    """

    __slots__ = ("block", "due", "fresh")

    def __init__(self) -> None:
        self.due: list[tuple[int, int, Entry]] = []
        self.fresh: list[tuple[int, int, Entry]] = []
        self.block: Block | None = None

    def sweep(self) -> bool:
        """Gives up jobs that no longer wait; returns whether anything is left."""
        for heap in (self.due, self.fresh):
            heap[:] = [item for item in heap if item[2].alive]
            heapify(heap)
        return bool(self.due or self.fresh or self.block)
