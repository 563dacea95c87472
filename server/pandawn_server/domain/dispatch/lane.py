"""The jobs of one band with similar needs, by age: those whose files are on no node, those held, those overdue."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from pandawn_server.domain.dispatch.by_age import ByAge, least
from pandawn_server.domain.dispatch.entries import Block, Entry, NeedsClass
from pandawn_server.domain.dispatch.matching import Needs, fits
from pandawn_server.domain.dispatch.nodes import Node

MOVED: Final = 16
"""A search for a job whose files are on no node ends after this many are found elsewhere: bounds a match's work."""

_LOOKS: Final = 64
"""Held jobs examined for one that fits an offer, when the offer does not fit all jobs of the lane."""


class Lane:
    """Waiting jobs with similar needs, by age.

    A job is in a block while its files are on no node. Then it is in `held`, for a node that holds its
    files, or in `free`, for any node. When its turn by age comes, it is in `due` too.

    An offer that fits all jobs, the usual case, is passed as None. For other offers there are indexes by age
    of the jobs without files on a node, of the free jobs and of the due jobs.
    """

    __slots__ = (
        "_due_by_age",
        "_found",
        "_free_by_age",
        "_nowhere_by_age",
        "_open",
        "blocks",
        "count",
        "due",
        "free",
        "held",
        "held_count",
        "kin",
        "least",
        "most",
        "moved",
        "owned",
        "promised",
    )

    def __init__(self, kin: NeedsClass, needs: Needs, found: Callable[[Entry], bool]) -> None:
        """`found` looks up the files of a job again; if a node holds them, it files the job as held or free."""
        self.kin = kin
        self._found = found
        # Bounds on the needs of its jobs: an offer that meets `least` may fit some, one that meets `most`
        # fits all.
        self.least = self.most = needs
        self._open: dict[int, Block] = {}
        self.blocks: deque[Block] = deque()
        self.owned: deque[Block] = deque()
        self.held: list[tuple[float, int, Entry]] = []
        self.free: list[tuple[int, Entry]] = []
        self.due: list[tuple[float, int, Entry]] = []
        self._nowhere_by_age = ByAge(lambda entry: entry.block is not None)
        self._free_by_age = ByAge(lambda entry: entry.alive)
        self._due_by_age = ByAge(lambda entry: entry.alive)
        self.count = 0
        self.held_count = 0
        # Jobs whose files were found on a node during the current search.
        self.moved = 0
        # Number of held jobs per node.
        self.promised: Counter[Node] = Counter()

    def widen(self, needs: Needs) -> None:
        """Extends `least` and `most` by a new job's needs."""
        if not (fits(needs, self.most) and fits(self.least, needs)):
            self.least = least(self.least, needs)
            self.most = Needs(*map(max, self.most, needs))

    # Jobs whose turn by age has come.

    def turned(self, entry: Entry) -> None:
        """Adds a job whose turn by age has come, with its `deadline` set."""
        heappush(self.due, (entry.deadline, entry.ordinal, entry))
        self._due_by_age.append(entry)

    def put_off(self, entry: Entry, until: float) -> None:
        """Extends the deadline of an overdue job, once."""
        entry.is_late, entry.deadline = True, until
        heappush(self.due, (until, entry.ordinal, entry))

    def overdue(self, offer: Needs | None, now: float) -> Entry | None:
        """A job that fits and was overtaken for too long."""
        due = self.due
        while due and (not due[0][2].alive or due[0][0] < due[0][2].deadline):
            heappop(due)
        if not due or due[0][0] > now:
            return None
        first = due[0][2]
        if offer is None or fits(first.needs, offer):
            return first
        # Deadlines follow the order of turns, except for jobs that were put off.
        entry = self._due_by_age.first(offer, lambda job: not job.is_late or job.deadline <= now)
        return entry if entry is not None and entry.deadline <= now else None

    # Jobs whose files are on no node.

    def add_nowhere(self, entry: Entry) -> None:
        """Adds a job whose files are on no node."""
        # A job without files or task has no neighbours.
        near = entry.task_id if entry.files else 0
        block = self._open.get(near) if near else None
        if block is None:
            block = Block(self.kin)
            self.blocks.append(block)
            if near:
                self._open[near] = block
        block.entries.append(entry)
        entry.block = block
        if near and block.full:
            del self._open[near]
        self._nowhere_by_age.append(entry)

    def first_of(self, block: Block, offer: Needs | None) -> Entry | None:
        """The oldest job of a block that fits the offer and whose files are still on no node."""
        entries = block.entries
        while block.head < len(entries):
            entry = entries[block.head]
            if self._is_nowhere(entry, block):
                if offer is None or fits(entry.needs, offer):
                    return entry
                break
            block.head += 1
        for entry in islice(entries, block.head + 1, None):
            if (
                entry.block is block
                and offer is not None
                and fits(entry.needs, offer)
                and self._is_nowhere(entry, block)
            ):
                return entry
        return None

    def _is_nowhere(self, entry: Entry, block: Block) -> bool:
        if entry.block is not block:
            return False
        if self._found(entry):
            entry.block = None
            self.moved += 1
            return False
        return True

    def oldest_nowhere(self, offer: Needs | None) -> Entry | None:
        """The oldest job whose files are on no node; blocks that no node has started go first.

        The search ends after `MOVED` jobs found elsewhere: when a file arrives, all that wait for it move at once.
        """
        self.moved = 0
        entry = self._first_in(self.blocks, offer)
        if entry is None and offer is not None and self.blocks and self.moved < MOVED:
            entry = self._nowhere_by_age.first(offer, self._is_unowned)
        entry = entry or self._first_in(self.owned, offer)
        if entry is None and offer is not None and self.owned and self.moved < MOVED:
            entry = self._nowhere_by_age.first(offer, self._is_in_block)
        return entry

    def _first_in(self, blocks: deque[Block], offer: Needs | None) -> Entry | None:
        while blocks and self.moved < MOVED:
            block = blocks[0]
            if block.owner is not None and blocks is self.blocks:
                self.owned.append(blocks.popleft())
                continue
            entry = self.first_of(block, offer)
            if entry is not None or block.head < len(block.entries):
                # It still has jobs, though perhaps none that fits.
                return entry
            self._close(block)
            blocks.popleft()
        return None

    def _is_unowned(self, entry: Entry) -> bool:
        block = entry.block
        return block is not None and block.owner is None and self._is_in_block(entry)

    def _is_in_block(self, entry: Entry) -> bool:
        block = entry.block
        return block is not None and self.moved < MOVED and self._is_nowhere(entry, block)

    def _close(self, block: Block) -> None:
        near = block.entries[0].task_id
        if self._open.get(near) is block:
            del self._open[near]

    # Jobs whose files are on some node.

    def hold(self, entry: Entry, node: Node, until: float) -> None:
        """Holds a job for a node."""
        entry.promised_to, entry.held_until = node, until
        node.promised += 1
        self.promised[node] += 1
        self.held_count += 1
        heappush(self.held, (entry.held_until, entry.ordinal, entry))

    def release(self, entry: Entry) -> None:
        """Lets any node take the job."""
        heappush(self.free, (entry.ordinal, entry))
        self._free_by_age.append(entry)

    def unpromise(self, entry: Entry) -> None:
        """Ends the hold of a job, if there is one."""
        node = entry.promised_to
        if node is not None:
            node.promised -= 1
            self.promised[node] -= 1
            if not self.promised[node]:
                del self.promised[node]
            self.held_count -= 1
            entry.promised_to = None

    def expire_holds(self, now: float) -> list[Entry]:
        """Releases the jobs whose hold has ended; returns them."""
        expired = []
        while self.held and (self.held[0][0] <= now or not _is_held(self.held[0][2])):
            entry = heappop(self.held)[2]
            if _is_held(entry):
                self.free_held(entry)
                expired.append(entry)
        return expired

    def free_held(self, entry: Entry) -> None:
        """Releases a held job."""
        self.unpromise(entry)
        self.release(entry)

    def oldest_free(self, offer: Needs | None) -> Entry | None:
        """The oldest job whose files are elsewhere and that is not held."""
        free = self.free
        while free and not free[0][1].alive:
            heappop(free)
        if not free or offer is None or fits(free[0][1].needs, offer):
            return free[0][1] if free else None
        return self._free_by_age.first(offer, _any)

    def first_held(self, offer: Needs | None) -> Entry | None:
        """About the job whose hold ends first."""
        held = self.held
        while held and not _is_held(held[0][2]):
            heappop(held)
        if offer is None:
            return held[0][2] if held else None
        for _, _, entry in islice(held, _LOOKS):
            if _is_held(entry) and fits(entry.needs, offer):
                return entry
        return None

    # Upkeep.

    def sweep(self) -> None:
        """Drops jobs that no longer wait."""
        self.held = [item for item in self.held if _is_held(item[2])]
        self.free = [item for item in self.free if item[1].alive]
        self.due = [item for item in self.due if item[2].alive]
        heapify(self.held)
        heapify(self.free)
        heapify(self.due)
        for blocks in (self.owned, self.blocks):
            for block in [*blocks]:
                blocks.popleft()
                block.entries = [entry for entry in block.entries if entry.block is block]
                block.head = 0
                if block.entries:
                    blocks.append(block)
        self._open = {near: block for near, block in self._open.items() if block.entries}
        self._nowhere_by_age.sweep()
        self._free_by_age.sweep()
        self._due_by_age.sweep()


def _is_held(entry: Entry) -> bool:
    return entry.alive and entry.promised_to is not None


def _any(_: Entry) -> bool:
    return True
