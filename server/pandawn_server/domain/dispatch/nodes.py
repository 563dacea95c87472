"""A worker node as the matchmaker keeps it."""

from __future__ import annotations

import math

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.dispatch.matching import Needs, fits

RATE_MEMORY_S = 3600.0
"""Time constant, in seconds, of the mean rate at which a node takes jobs."""


class Node:
    """A node: the files that its cache holds and those on their way, by file number.

    `known` is False until the first inventory or change arrives. `offer` is the maximum that its requests
    have offered, None before the first. `promised` counts the jobs held for it, `idle` the jobs that its
    waiting requests ask for.
    """

    __slots__ = (
        "changes",
        "coming",
        "epoch",
        "files",
        "first_grant",
        "idle",
        "key",
        "known",
        "last_grant",
        "live",
        "look_at",
        "look_from",
        "number",
        "offer",
        "promised",
        "rate",
        "sequence",
    )

    def __init__(self, key: NodeKey, number: int) -> None:
        self.key = key
        self.number = number
        self.files: set[int] = set()
        self.changes = 0
        self.coming: dict[int, float] = {}
        self.known = False
        self.live = False
        self.epoch = 0
        self.sequence = 0
        self.offer: Needs | None = None
        self.promised = 0
        self.idle = 0
        # Where the current scan of its files continues, and the earliest time for that.
        self.look_from = 0
        self.look_at = 0.0
        self.rate = 0.0
        self.first_grant = self.last_grant = 0.0

    def record_offer(self, offer: Needs) -> None:
        """Merges what a request offers into `offer`: the next pilot may offer as much."""
        if self.offer is None:
            self.offer = offer
        elif not fits(offer, self.offer):
            self.offer = Needs(*map(max, self.offer, offer))

    def may_run(self, needs: Needs) -> bool:
        """Whether the node is large enough for the job, as far as is known."""
        return self.offer is None or fits(needs, self.offer)

    def record_changes(self, count: int) -> None:
        """Counts file changes; packs the set after as many changes as there are files."""
        self.changes += count
        if self.changes > len(self.files):
            self.pack()

    def pack(self) -> None:
        """Rebuilds the file set: built at its final size, it takes half the memory of one that grew, or less."""
        self.files = set(self.files)
        self.changes = 0

    def record_grant(self, now: float) -> None:
        """Counts a job given at `now` in the rate."""
        if not self.rate:
            self.first_grant = now
        else:
            self.rate *= math.exp((self.last_grant - now) / RATE_MEMORY_S)
        self.rate += 1 / RATE_MEMORY_S
        self.last_grant = now

    def expected_wait_s(self, now: float) -> float:
        """Seconds until the node takes one more job than those promised to it; 0 when unknown.

        On average a node takes jobs as fast as its slots become free.
        """
        seen = now - self.first_grant
        if not self.rate or seen <= 0:
            return 0.0 if not self.promised else math.inf
        # A young mean is too low: it lacks the time before its first sample.
        rate = self.rate * math.exp((self.last_grant - now) / RATE_MEMORY_S)
        rate /= 1 - math.exp(-seen / RATE_MEMORY_S)
        return (self.promised + 1) / rate if rate > 0 else math.inf
