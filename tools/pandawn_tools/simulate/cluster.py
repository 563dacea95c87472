"""The nodes of a simulation, each with slots, an LRU cache and one network link."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cluster:
    """The properties of the nodes. `mtbf_s` is the mean time between failures of one node; 0 means no failures.

    A failed node comes back with an empty cache after `repair_s`. `lease_s` and `heartbeat_s` are those of
    the queue: the jobs of a failed node become runnable again when their leases have lapsed.
    """

    nodes: int = 100
    slots: int = 8
    cache_bytes: int = 160 * 10**9
    bytes_per_s: float = 60e6
    mtbf_s: float = 0.0
    repair_s: float = 3600.0
    lease_s: float = 600.0
    heartbeat_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Staged:
    """The stage-in of a job's inputs on a node.

    All inputs are there at time `ready`. The files `fetched`, with `moved_bytes` together, come over the link, the
    last one at time `came`. `hits` files are in the cache, or already on their way for another job.
    """

    ready: float
    came: float
    moved_bytes: int
    hits: int
    fetched: list[tuple[int, int]]


class Node:
    """A worker node. `free` counts its slots without a job; `coming` are files with their arrival times.

    `life` is incremented at each failure; events planned in an earlier life are ignored. `running` are the
    jobs with the times at which they were dispatched.
    """

    __slots__ = (
        "cache",
        "cache_bytes",
        "coming",
        "free",
        "life",
        "link_free_at",
        "number",
        "running",
        "up",
        "used_bytes",
    )

    def __init__(self, number: int, cluster: Cluster) -> None:
        self.number = number
        self.free = cluster.slots
        self.cache: OrderedDict[int, int] = OrderedDict()
        self.cache_bytes = cluster.cache_bytes
        self.used_bytes = 0
        self.coming: dict[int, float] = {}
        self.link_free_at = 0.0
        self.running: dict[int, float] = {}
        self.up = True
        self.life = 0

    def stage(self, inputs: Iterable[tuple[int, int]], now: float, bytes_per_s: float) -> Staged:
        """Starts to move the missing files, one after the other, over the node's link."""
        ready = now
        moved_bytes = hits = 0
        fetched = []
        for file, size in inputs:
            if file in self.cache:
                self.cache.move_to_end(file)
                hits += 1
                continue
            there = self.coming.get(file)
            if there is None:
                self.link_free_at = max(self.link_free_at, now) + size / bytes_per_s
                there = self.coming[file] = self.link_free_at
                moved_bytes += size
                fetched.append((file, size))
            else:
                hits += 1
            ready = max(ready, there)
        return Staged(ready, self.link_free_at, moved_bytes, hits, fetched)

    def keep(self, fetched: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Adds arrived files to the cache; returns the added files, and those evicted for them."""
        added, deleted = [], []
        for file, size in fetched:
            if self.coming.pop(file, None) is not None:
                self.cache[file] = size
                self.used_bytes += size
                added.append(file)
        while self.used_bytes > self.cache_bytes:
            file, size = self.cache.popitem(last=False)
            self.used_bytes -= size
            deleted.append(file)
        return added, deleted

    def fail(self) -> dict[int, float]:
        """Loses everything; returns the running jobs, with the times at which they were dispatched."""
        lost, self.running = self.running, {}
        self.up = False
        self.life += 1
        self.free = 0
        self.cache.clear()
        self.coming.clear()
        self.used_bytes = 0
        return lost
