"""Policies that compare the first jobs of the queue: first come first served, PanDA's rules of 2010, fewest bytes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from pandawn_tools.simulate.cluster import Node
from pandawn_tools.simulate.policy import Given
from pandawn_tools.simulate.workload import SimJob

FIRST_TEN: Final = 10
"""The number of jobs that PanDA compared in 2010 (`maxAttemptIDx` in `getJobs`)."""

EXPIRY_S: Final = 86_400.0
"""The lifetime of an entry in memcached in 2010 (`memcached_exptime`)."""

Cost = Callable[[SimJob, Node, float], int]
"""The cost of a job on a node at a time. The job with the lowest cost is chosen, among equals the oldest."""


class Lookahead:
    """A free slot gets the cheapest of the first `depth` jobs of the highest priority.

    If several slots are free, a random one polls first.
    """

    def __init__(self, depth: int, cost: Cost | None, seed: int) -> None:
        self._depth = depth
        self._cost = cost
        self._draw = random.Random(seed)
        self._jobs: Sequence[SimJob] = ()
        self._queues: dict[int, deque[int]] = {}
        self._idle: list[Node] = []

    def begin(self, jobs: Sequence[SimJob], nodes: Sequence[Node]) -> None:
        """See `Policy.begin`."""
        self._jobs = jobs
        self._idle = [node for node in nodes for _ in range(node.free)]

    def arrive(self, jobs: Sequence[int], now: float) -> None:
        """See `Policy.arrive`."""
        del now
        for job in jobs:
            self._queues.setdefault(self._jobs[job].priority, deque()).append(job)

    def slot_free(self, node: Node, now: float) -> None:
        """See `Policy.slot_free`."""
        del now
        self._idle.append(node)

    def changed(self, node: Node, added: Sequence[int], deleted: Sequence[int], now: float) -> None:
        """See `Policy.changed`. This policy reads the caches directly."""

    def failed(self, node: Node, now: float) -> None:
        """See `Policy.failed`."""
        del now
        self._idle = [idle for idle in self._idle if idle is not node]

    def repaired(self, node: Node, now: float) -> None:
        """See `Policy.repaired`."""

    def expired(self, node: Node, now: float) -> None:
        """See `Policy.expired`."""

    def choose(self, now: float) -> Sequence[Given]:
        """See `Policy.choose`."""
        chosen = []
        idle = self._idle
        while idle and self._queues:
            # A random one, in constant time.
            place = self._draw.randrange(len(idle))
            idle[place], idle[-1] = idle[-1], idle[place]
            node = idle.pop()
            given = Given(self._take(node, now), node)
            self.given(given, now)
            chosen.append(given)
        return chosen

    def given(self, given: Given, now: float) -> None:
        """Called for each dispatched job."""

    def next_wake(self, now: float) -> float | None:
        """See `Policy.next_wake`."""
        del now
        return None

    def _take(self, node: Node, now: float) -> int:
        priority = max(self._queues)
        queue = self._queues[priority]
        place = 0
        if self._cost is not None:
            looked = [self._jobs[queue[n]] for n in range(min(self._depth, len(queue)))]
            costs = [self._cost(job, node, now) for job in looked]
            place = costs.index(min(costs))
        job = queue[place]
        del queue[place]
        if not queue:
            del self._queues[priority]
        return job


def fifo(seed: int) -> Lookahead:
    """First come first served."""
    return Lookahead(1, None, seed)


def missing_bytes(job: SimJob, node: Node, now: float) -> int:
    """The input bytes of the job that are neither on the node nor on their way there."""
    del now
    return sum(
        size for file, size in job.inputs if file not in node.cache and file not in node.coming
    )


def fewest_bytes(depth: int, seed: int) -> Lookahead:
    """The job with the fewest bytes to move, among the first `depth`, with perfect knowledge of the caches."""
    return Lookahead(depth, missing_bytes, seed)


class Panda2010(Lookahead):
    """The rules of 2010: among the first ten jobs, the one with the most files in the catalog of that time.

    All inputs were entered when a job was dispatched; deletions were never reported; entries expired after a day.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(FIRST_TEN, self._cached_files, seed)
        self._entries: dict[int, dict[int, float]] = {}

    def _cached_files(self, job: SimJob, node: Node, now: float) -> int:
        entries = self._entries.get(node.number)
        if entries is None:
            return 0
        return -sum(entries.get(file, -1.0) > now for file, _ in job.inputs)

    def given(self, given: Given, now: float) -> None:
        """Enters all inputs, before any of them has arrived."""
        entries = self._entries.setdefault(given.node.number, {})
        for file, _ in self._jobs[given.job].inputs:
            entries[file] = now + EXPIRY_S

    def repaired(self, node: Node, now: float) -> None:
        """The pcache of that time flushed the node's entries when its directory had gone."""
        super().repaired(node, now)
        self._entries.pop(node.number, None)
