"""Which live node holds which files, as the brokerage believes it, and what is on its way there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator

from pandawn_server.domain.inventory import NodeKey

MANY_HOLDERS = 64
"""A file on more nodes than this draws no job to any of them: it is near wherever the job goes, and
to follow it would cost more than it tells."""

COMING_S = 1200.0
"""For how many seconds after a match its files are believed to be on their way: 20 min, twice what
the 14 GiB of the largest usual job take at 60 MB/s on a link shared by three. Then the catalog knows them, or
the transfer failed."""

RATE_MEMORY_S = 3600.0
"""Time constant, in seconds, of the mean rate at which a node takes jobs."""

_SMALL = 12
"""Up to so many holders are kept in a tuple of numbers: a quarter of the memory of a set."""


class Node:
    """A node: what its cache holds and what is on its way there, both by file number.

    `known` is False until an inventory or its first change was seen. `promised` counts the jobs
    that are kept for it, `idle` its jobs' worth of waiting requests.
    """

    __slots__ = (
        "coming",
        "epoch",
        "files",
        "first_grant",
        "idle",
        "key",
        "known",
        "last_grant",
        "live",
        "looked",
        "number",
        "promised",
        "rate",
        "sequence",
    )

    def __init__(self, key: NodeKey, number: int) -> None:
        self.key = key
        self.number = number
        self.files: set[int] = set()
        self.coming: dict[int, float] = {}
        self.known = False
        self.live = False
        self.epoch = 0
        self.sequence = 0
        self.promised = 0
        self.idle = 0
        self.rate = 0.0
        self.first_grant = self.last_grant = self.looked = 0.0

    def note_grant(self, now: float) -> None:
        """Counts a job given at `now` into the rate."""
        if not self.rate:
            self.first_grant = now
        else:
            self.rate *= math.exp((self.last_grant - now) / RATE_MEMORY_S)
        self.rate += 1 / RATE_MEMORY_S
        self.last_grant = now

    def expected_wait_s(self, now: float) -> float:
        """Seconds until it takes one more job than those promised to it; 0 when that is unknown.

        A node takes jobs, in the mean, as fast as its slots become free.
        """
        seen = now - self.first_grant
        if not self.rate or seen <= 0:
            return 0.0 if not self.promised else math.inf
        # A young mean lacks what came before it was begun.
        rate = self.rate * math.exp((self.last_grant - now) / RATE_MEMORY_S)
        rate /= 1 - math.exp(-seen / RATE_MEMORY_S)
        return (self.promised + 1) / rate if rate > 0 else math.inf


class Holdings:
    """All nodes of a queue, and for each file the live nodes that hold it or soon will."""

    def __init__(self) -> None:
        self._nodes: dict[NodeKey, Node] = {}
        self.by_number: list[Node] = []
        # Tuples of plain numbers: the garbage collector stops looking at them.
        self._where: dict[int, tuple[int, ...] | set[int]] = {}
        self._arrivals: deque[tuple[float, Node, tuple[int, ...]]] = deque()

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def node(self, key: NodeKey) -> Node:
        """The node of that name, made known if it was not."""
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(key, len(self.by_number))
            self.by_number.append(node)
        return node

    def find(self, key: NodeKey) -> Node | None:
        """The node of that name, if it is known."""
        return self._nodes.get(key)

    def set_live(self, node: Node, *, live: bool) -> None:
        """Says whether the node has pilots: what others hold draws no job."""
        if node.live == live:
            return
        node.live = live
        change = self._enter if live else self._leave
        for file in node.files:
            change(file, node.number)
        for file in node.coming:
            if file not in node.files:
                change(file, node.number)

    def replace(self, node: Node, files: Collection[int]) -> list[int]:
        """Puts an inventory in the place of what was believed; returns what is new."""
        new = set(files)
        gone = node.files - new
        came = [file for file in new if file not in node.files and file not in node.coming]
        # Files that were on their way and are not there may still come.
        self.drop(node, gone)
        # A set made at its size takes half the room of one that grew.
        node.files = set(new)
        for file in new:
            node.coming.pop(file, None)
        if node.live:
            for file in came:
                self._enter(file, node.number)
        return came

    def add(self, node: Node, files: Iterable[int]) -> list[int]:
        """Notes files that the cache confirmed; returns those that were not even on their way."""
        came = []
        for file in files:
            if file in node.files:
                continue
            node.files.add(file)
            if node.coming.pop(file, None) is None:
                came.append(file)
                if node.live:
                    self._enter(file, node.number)
        return came

    def drop(self, node: Node, files: Iterable[int]) -> None:
        """Forgets files that the cache deleted."""
        for file in files:
            if file in node.files:
                node.files.discard(file)
                if node.live and file not in node.coming:
                    self._leave(file, node.number)

    def expect(self, node: Node, files: Iterable[int], now: float) -> list[int]:
        """Notes that files are on their way; returns those that are new to the node."""
        until = now + COMING_S
        missing = tuple([file for file in files if file not in node.files])
        came = [file for file in missing if file not in node.coming]
        for file in missing:
            node.coming[file] = until
        if node.live:
            for file in came:
                self._enter(file, node.number)
        if missing:
            self._arrivals.append((until, node, missing))
        return came

    def unexpect(self, node: Node, files: Iterable[int]) -> None:
        """Takes back `expect`: the transfer will not take place."""
        for file in files:
            if node.coming.pop(file, None) is not None and node.live:
                self._leave(file, node.number)

    def expire(self, now: float) -> None:
        """Gives up files that were on their way for too long."""
        while self._arrivals and self._arrivals[0][0] <= now:
            _, node, files = self._arrivals.popleft()
            # Another job may have asked for the file since.
            self.unexpect(node, [f for f in files if node.coming.get(f, math.inf) <= now])

    def _enter(self, file: int, number: int) -> None:
        holders = self._where.get(file)
        if holders is None:
            self._where[file] = (number,)
        elif isinstance(holders, set):
            holders.add(number)
        elif number not in holders:
            grown = (*holders, number)
            self._where[file] = grown if len(grown) <= _SMALL else set(grown)

    def _leave(self, file: int, number: int) -> None:
        holders = self._where.get(file)
        if holders is None:
            return
        if isinstance(holders, set):
            holders.discard(number)
            if len(holders) <= _SMALL // 2:
                self._where[file] = tuple(holders)
        elif holders == (number,):
            del self._where[file]
        else:
            self._where[file] = tuple(holder for holder in holders if holder != number)

    def shares(self, files: Iterable[int], sizes: Iterable[int]) -> dict[int, int]:
        """Bytes of the files by number of the live node that holds them or soon will.

        Files on more than `MANY_HOLDERS` nodes are left out.
        """
        found: dict[int, int] = {}
        where = self._where
        for file, size in zip(files, sizes, strict=True):
            holders = where.get(file)
            if holders is not None and len(holders) <= MANY_HOLDERS:
                for number in holders:
                    found[number] = found.get(number, 0) + size
        return found
