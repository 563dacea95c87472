"""The jobs of one band with like needs, by age: those whose files are nowhere, those held, those overdue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import islice
from typing import Final

from pandawn_server.domain.brokerage.entries import Block, Entry, NeedsClass
from pandawn_server.domain.matching import Needs, fits

LOOKS: Final = 8
"""How many jobs are looked at, beside those passed over for good, for one that fits an offer which
not all jobs of the lane fit: bounds the work of a match."""


class Lane:
    """Waiting jobs with like needs, in the order of age.

    A job stands in a block while its files are nowhere, then in `held` or `free`: kept for a node
    that holds its files, or for anybody. When its turn by age has come it stands in `due` too.
    """

    __slots__ = (
        "_floor",
        "_found",
        "_open",
        "_top",
        "blocks",
        "count",
        "due",
        "free",
        "held",
        "held_count",
        "kin",
        "owned",
    )

    def __init__(self, kin: NeedsClass, found: Callable[[Entry], bool]) -> None:
        """`found` looks again for the files of a job, and files it as held or free if there are any."""
        self.kin = kin
        self._found = found
        # What each of its jobs needs at least, and what none exceeds.
        self._floor = Needs(*((1 << bits) >> 1 for bits in kin))
        self._top = Needs(*((1 << bits) - 1 for bits in kin))
        self._open: dict[int, Block] = {}
        self.blocks: deque[Block] = deque()
        self.owned: deque[Block] = deque()
        self.held: list[tuple[float, int, Entry]] = []
        self.free: list[tuple[int, Entry]] = []
        self.due: deque[Entry] = deque()
        self.count = 0
        self.held_count = 0

    def admits(self, offer: Needs) -> bool | None:
        """Whether all its jobs fit the offer (True), none does (False), or each is to be asked (None)."""
        if fits(self._top, offer):
            return True
        return None if fits(self._floor, offer) else False

    def add_nowhere(self, entry: Entry) -> None:
        """Takes in a job whose files are nowhere."""
        # Without files or task there are no neighbours.
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

    def overdue(self, offer: Needs | None, now: float) -> Entry | None:
        """The job that was overtaken for too long and fits; `offer` is None when all do."""
        due = self.due
        while due and not due[0].alive:
            due.popleft()
        for entry in islice(due, 1 if offer is None else LOOKS):
            if (
                entry.deadline <= now
                and entry.alive
                and (offer is None or fits(entry.needs, offer))
            ):
                return entry
        return None

    def first_of(self, block: Block, offer: Needs | None) -> Entry | None:
        """The oldest job of a block whose files are nowhere still and that fits the offer."""
        entries = block.entries
        while block.head < len(entries):
            entry = entries[block.head]
            if entry.block is block:
                if not self._found(entry):
                    break
                entry.block = None
            block.head += 1
        else:
            return None
        if offer is None:
            return entries[block.head]
        for entry in entries[block.head :]:
            if entry.block is block and fits(entry.needs, offer):
                return entry
        return None

    def oldest_nowhere(self, offer: Needs | None) -> Entry | None:
        """The oldest job whose files are nowhere; jobs of blocks that no node has begun go first."""
        blocks = self.blocks
        looks = 0
        while blocks and looks < LOOKS:
            block = blocks[0]
            if block.owner is not None:
                self.owned.append(blocks.popleft())
                continue
            entry = self.first_of(block, offer)
            if entry is not None:
                blocks.rotate(looks)
                return entry
            if block.head < len(block.entries):
                looks += 1
                blocks.rotate(-1)
            else:
                self._close(block)
                blocks.popleft()
        blocks.rotate(looks)
        while self.owned:
            block = self.owned[0]
            entry = self.first_of(block, offer)
            if entry is not None or block.head < len(block.entries):
                return entry
            self._close(block)
            self.owned.popleft()
        return None

    def _close(self, block: Block) -> None:
        near = block.entries[0].task_id
        if self._open.get(near) is block:
            del self._open[near]

    def hold(self, entry: Entry) -> None:
        """Keeps a job for the node that it is promised to."""
        self.held_count += 1
        heappush(self.held, (entry.held_until, entry.ordinal, entry))

    def release(self, entry: Entry) -> None:
        """Lets anybody have the job."""
        heappush(self.free, (entry.ordinal, entry))

    def unpromise(self, entry: Entry) -> None:
        """Ends the promise of a job, if there is one."""
        node = entry.promised_to
        if node is not None:
            node.promised -= 1
            self.held_count -= 1
            entry.promised_to = None

    def lapse(self, now: float) -> list[Entry]:
        """Frees the jobs that were held long enough; returns them."""
        lapsed = []
        while self.held and (self.held[0][0] <= now or not self.held[0][2].alive):
            entry = heappop(self.held)[2]
            if entry.alive and entry.promised_to is not None:
                self.unpromise(entry)
                self.release(entry)
                lapsed.append(entry)
        return lapsed

    def oldest_free(self, offer: Needs | None) -> Entry | None:
        """The oldest job whose files are elsewhere and that is not held."""
        free = self.free
        aside: list[tuple[int, Entry]] = []
        found = None
        while free and len(aside) < LOOKS:
            entry = free[0][1]
            if not entry.alive:
                heappop(free)
            elif offer is None or fits(entry.needs, offer):
                found = entry
                break
            else:
                aside.append(heappop(free))
        for item in aside:
            heappush(free, item)
        return found
