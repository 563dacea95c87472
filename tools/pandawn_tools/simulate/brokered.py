"""Pandawn's policy: the server's own matchmaker, unchanged, with the same inputs as in the server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.dispatch.engine import Matchmaker
from pandawn_server.domain.dispatch.matching import Rules
from pandawn_server.domain.dispatch.values import Request, RunnableJob
from pandawn_server.domain.tasks.jobs import Requirements
from pandawn_tools.simulate.cluster import Node
from pandawn_tools.simulate.policy import Given
from pandawn_tools.simulate.reports import Faults, Reports
from pandawn_tools.simulate.workload import SimJob

_BEGINNING = datetime(2011, 2, 1, tzinfo=UTC)
_ANYTHING = Requirements()
_SITE = "SIMULATED"


class Brokered:
    """Each free slot is a pilot in a long poll, which waits until the matchmaker has a job for it."""

    def __init__(
        self, *, locality_wait_s: float, priority_band: int, faults: Faults, seed: int
    ) -> None:
        self._matchmaker = Matchmaker(Rules(priority_band, timedelta(seconds=locality_wait_s), 0))
        self._faults = faults
        self._seed = seed
        self._jobs: Sequence[SimJob] = ()
        self._keys: list[NodeKey] = []
        self._reports: Reports | None = None
        self._asking: dict[str, Node] = {}
        self._new: list[Request] = []
        self._numbers = count(1)

    def begin(self, jobs: Sequence[SimJob], nodes: Sequence[Node]) -> None:
        """See `Policy.begin`."""
        self._jobs = jobs
        self._keys = [NodeKey(_SITE, f"node{node.number}") for node in nodes]
        pairs = list(zip(nodes, self._keys, strict=True))
        self._reports = Reports(self._matchmaker, pairs, self._faults, self._seed, _time)
        for node in nodes:
            for _ in range(node.free):
                self.slot_free(node, 0.0)

    @property
    def _heard(self) -> Reports:
        assert self._reports is not None, "a policy has to begin"
        return self._reports

    def arrive(self, jobs: Sequence[int], now: float) -> None:
        """See `Policy.arrive`."""
        since = _time(now)
        self._matchmaker.add([self._waiting(job, since) for job in jobs], since)

    def _waiting(self, number: int, since: datetime) -> RunnableJob:
        job = self._jobs[number]
        return RunnableJob(number, job.priority, since, job.inputs, _ANYTHING, job.task)

    def slot_free(self, node: Node, now: float) -> None:
        """See `Policy.slot_free`."""
        del now
        request_id = str(next(self._numbers))
        self._asking[request_id] = node
        self._new.append(Request(request_id, self._keys[node.number], _ANYTHING))

    def changed(self, node: Node, added: Sequence[int], deleted: Sequence[int], now: float) -> None:
        """See `Policy.changed`."""
        self._heard.changed(self._keys[node.number], added, deleted, now)

    def failed(self, node: Node, now: float) -> None:
        """Its connections break, so its polls are withdrawn. The server does not know yet that its jobs failed."""
        del now
        gone = {request_id for request_id, asking in self._asking.items() if asking is node}
        for request_id in gone:
            del self._asking[request_id]
        self._new = [request for request in self._new if request.request_id not in gone]
        self._matchmaker.cancel(gone)

    def repaired(self, node: Node, now: float) -> None:
        """See `Policy.repaired`."""
        self._heard.wiped(self._keys[node.number], now)

    def expired(self, node: Node, now: float) -> None:
        """See `Policy.expired`. The server marks its pilots as lost; a new poll would make the node live again."""
        del now
        if not node.up:
            self._matchmaker.set_live(self._keys[node.number], live=False)

    def choose(self, now: float) -> Sequence[Given]:
        """See `Policy.choose`."""
        self._heard.advance(now)
        self._matchmaker.ask(self._new)
        self._new = []
        return [
            Given(assignment.match.job_id, self._asking.pop(assignment.request_id))
            for assignment in self._matchmaker.match(_time(now))
        ]

    def next_wake(self, now: float) -> float | None:
        """See `Policy.next_wake`."""
        del now
        end = self._matchmaker.next_hold_end()
        due = self._heard.next_due()
        at = None if end is None else (end - _BEGINNING).total_seconds()
        if at is None or due is None:
            return due if at is None else at
        return min(at, due)


def _time(now: float) -> datetime:
    return _BEGINNING + timedelta(seconds=now)
