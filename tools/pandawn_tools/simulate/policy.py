"""The interface of a policy: it is notified of events, and chooses the node of each job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pandawn_tools.simulate.cluster import Node
from pandawn_tools.simulate.workload import SimJob


@dataclass(frozen=True, slots=True)
class Given:
    """A job, by its index in the workload, that goes to a free slot of a node."""

    job: int
    node: Node


class Policy(Protocol):
    """A policy. Times are seconds of the simulation, and never decrease."""

    def begin(self, jobs: Sequence[SimJob], nodes: Sequence[Node]) -> None:
        """Gets the workload, before any job has arrived, and the nodes, with all slots free."""
        ...

    def arrive(self, jobs: Sequence[int], now: float) -> None:
        """Jobs have become runnable, for the first time or again."""
        ...

    def slot_free(self, node: Node, now: float) -> None:
        """One more slot of a node polls for a job."""
        ...

    def changed(self, node: Node, added: Sequence[int], deleted: Sequence[int], now: float) -> None:
        """The cache of a node added some files and evicted others."""
        ...

    def failed(self, node: Node, now: float) -> None:
        """A node has failed: its slots stop polling, and its cache is lost."""
        ...

    def repaired(self, node: Node, now: float) -> None:
        """A node is back with an empty cache; its slots will poll."""
        ...

    def expired(self, node: Node, now: float) -> None:
        """The leases of a failed node have lapsed: the server now knows that it has failed."""
        ...

    def choose(self, now: float) -> Sequence[Given]:
        """Matches jobs with slots, each at most once; the remaining ones keep waiting."""
        ...

    def next_wake(self, now: float) -> float | None:
        """When to call `choose` again even if nothing happens; None means never."""
        ...
