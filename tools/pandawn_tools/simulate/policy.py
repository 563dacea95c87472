"""What a simulation asks of a policy: it is told what happens, and says which job goes to which node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pandawn_tools.simulate.cluster import Node
from pandawn_tools.simulate.workload import SimJob


@dataclass(frozen=True, slots=True)
class Given:
    """A job, by its place in the workload, for a free slot of a node."""

    job: int
    node: Node


class Policy(Protocol):
    """Times are seconds of the simulation; they never go back."""

    def begin(self, jobs: Sequence[SimJob], nodes: Sequence[Node]) -> None:
        """Gets to know the workload, none of which has arrived, and the nodes, all slots of which are free."""
        ...

    def arrive(self, jobs: Sequence[int], now: float) -> None:
        """Jobs became runnable, for the first time or again."""
        ...

    def slot_free(self, node: Node, now: float) -> None:
        """One more slot of a node asks for a job."""
        ...

    def changed(self, node: Node, added: Sequence[int], deleted: Sequence[int], now: float) -> None:
        """The cache of a node took files in and dropped some."""
        ...

    def failed(self, node: Node, now: float) -> None:
        """A node went down: its slots ask no more, and its cache is lost."""
        ...

    def repaired(self, node: Node, now: float) -> None:
        """A node is back with an empty cache; its slots will ask."""
        ...

    def expired(self, node: Node, now: float) -> None:
        """The leases of a node that failed have lapsed: the server knows that it is gone."""
        ...

    def choose(self, now: float) -> Sequence[Given]:
        """Matches jobs with slots. Each job and each slot is given once; what is left goes on waiting."""
        ...

    def next_wake(self, now: float) -> float | None:
        """When to be asked again at the latest, though nothing happens; None for never."""
        ...
