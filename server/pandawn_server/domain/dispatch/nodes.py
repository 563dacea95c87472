"""A worker node as the matchmaker keeps it."""

from __future__ import annotations

import math

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.dispatch.matching import Needs, fits

RATE_MEMORY_S = 3600.0
"""Time constant, in seconds, of the mean rate at which a node takes jobs."""


class Node:
    """A node: what its cache holds and what is on its way there, both by file number.

    `known` is False until an inventory or its first change was seen. `offer` is the most that its
    requests have offered, None before the first. `promised` counts the jobs that are kept for it,
    `idle` its jobs' worth of waiting requests.
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
        # Where the present look through its files goes on, and not before when.
        self.look_from = 0
        self.look_at = 0.0
        self.rate = 0.0
        self.first_grant = self.last_grant = 0.0

    def note_offer(self, offer: Needs) -> None:
        """Takes note of what a request offers; the next pilot may offer as much."""
        if self.offer is None:
            self.offer = offer
        elif not fits(offer, self.offer):
            self.offer = Needs(*map(max, self.offer, offer))

    def may_run(self, needs: Needs) -> bool:
        """Whether a job is not too large for the node, as far as is known."""
        return self.offer is None or fits(needs, self.offer)

    def note_changes(self, count: int) -> None:
        """Counts changes of the files; packs them when there were as many as there are files."""
        self.changes += count
        if self.changes > len(self.files):
            self.pack()

    def pack(self) -> None:
        """Takes the least memory: a set that was made at its size takes half or less of one that grew."""
        self.files = set(self.files)
        self.changes = 0

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
