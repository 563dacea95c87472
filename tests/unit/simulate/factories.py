"""Jobs, nodes and policies for tests of the simulator."""

from __future__ import annotations

from collections.abc import Sequence

from pandawn_tools.simulate.cluster import Cluster, Node
from pandawn_tools.simulate.policy import Given
from pandawn_tools.simulate.workload import SimJob

MB = 10**6


def make_job(*files: int, **overrides: float) -> SimJob:
    """A job of a minute that reads files of 60 MB, which take a second each."""
    values = {"at": 0.0, "task": 1, "priority": 0, "runtime_s": 60.0} | overrides
    return SimJob(
        at=values["at"],
        task=int(values["task"]),
        priority=int(values["priority"]),
        runtime_s=values["runtime_s"],
        inputs=tuple((file, 60 * MB) for file in files),
    )


def make_cluster(**overrides: float) -> Cluster:
    """One node with one slot and room for everything."""
    values: dict[str, float] = {"nodes": 1, "slots": 1, "cache_bytes": 10**15} | overrides
    return Cluster(
        nodes=int(values.pop("nodes")),
        slots=int(values.pop("slots")),
        cache_bytes=int(values.pop("cache_bytes")),
        **values,
    )


def make_nodes(count: int, slots: int = 1) -> list[Node]:
    """Nodes without a world around them."""
    cluster = make_cluster(nodes=count, slots=slots)
    return [Node(number, cluster) for number in range(count)]


class Scripted:
    """A policy that gives jobs in the order of arrival to the first node with a free slot; it notes all it hears."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.nodes: Sequence[Node] = ()
        self.heard: list[tuple[str, float]] = []

    def begin(self, jobs: Sequence[SimJob], nodes: Sequence[Node]) -> None:
        """See `Policy.begin`."""
        del jobs
        self.nodes = nodes

    def arrive(self, jobs: Sequence[int], now: float) -> None:
        """See `Policy.arrive`."""
        self.waiting += jobs
        self.heard.append((f"arrive {list(jobs)}", now))

    def slot_free(self, node: Node, now: float) -> None:
        """See `Policy.slot_free`."""
        self.heard.append((f"slot of {node.number}", now))

    def changed(self, node: Node, added: Sequence[int], deleted: Sequence[int], now: float) -> None:
        """See `Policy.changed`."""
        self.heard.append((f"{node.number} +{list(added)} -{list(deleted)}", now))

    def failed(self, node: Node, now: float) -> None:
        """See `Policy.failed`."""
        self.heard.append((f"{node.number} failed", now))

    def repaired(self, node: Node, now: float) -> None:
        """See `Policy.repaired`."""
        self.heard.append((f"{node.number} repaired", now))

    def expired(self, node: Node, now: float) -> None:
        """See `Policy.expired`."""
        self.heard.append((f"{node.number} expired", now))

    def choose(self, now: float) -> Sequence[Given]:
        """See `Policy.choose`."""
        del now
        free = [node for node in self.nodes for _ in range(node.free)]
        waiting, self.waiting = self.waiting[: len(free)], self.waiting[len(free) :]
        return [Given(job, node) for job, node in zip(waiting, free, strict=False)]

    def next_wake(self, now: float) -> float | None:
        """See `Policy.next_wake`."""
        del now
        return None
