"""The simulation with its virtual clock: jobs arrive and run on nodes as a policy decides; nodes fail and recover."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heapify, heappop, heappush

from pandawn_tools.simulate.cluster import Cluster, Node
from pandawn_tools.simulate.policy import Policy
from pandawn_tools.simulate.workload import SimJob


class StuckError(Exception):
    """A policy lets jobs wait forever although slots are free."""


@dataclass(slots=True)
class Outcome:
    """The result of a run; `input_bytes` and `reads` count each attempt.

    `wait_s` is the time that each job was runnable without a slot, summed over its attempts; `end` is when it ended.
    """

    moved_bytes: int = 0
    input_bytes: int = 0
    hits: int = 0
    reads: int = 0
    lost_attempts: int = 0
    wait_s: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)


class _What(IntEnum):
    """The kinds of events, in the order in which simultaneous events are handled."""

    ARRIVAL = 0
    FILES_CAME = 1
    JOB_ENDED = 2
    FAILURE = 3
    LEASES_LAPSED = 4
    REPAIR = 5
    WAKE = 6


@dataclass(frozen=True, slots=True)
class _Event:
    what: _What
    node: Node | None = None
    life: int = 0
    jobs: Sequence[int] = ()
    fetched: Sequence[tuple[int, int]] = ()


class World:
    """One run of one workload with one policy; can be used only once."""

    def __init__(self, jobs: Sequence[SimJob], cluster: Cluster, policy: Policy, seed: int) -> None:
        """`jobs` are sorted by time. The same seed gives the same failures with any policy."""
        self._jobs = jobs
        self._cluster = cluster
        self._policy = policy
        self._nodes = [Node(number, cluster) for number in range(cluster.nodes)]
        self._failures = [random.Random(f"{seed} {node.number}") for node in self._nodes]
        self._events: list[tuple[float, int, int, _Event]] = []
        self._scheduled = 0
        self._now = 0.0
        self._woken_at: float | None = None
        self._since = [job.at for job in jobs]
        self._done = 0
        self._outcome = Outcome(wait_s=[0.0] * len(jobs), end=[0.0] * len(jobs))

    def run(self) -> Outcome:
        """Runs until all jobs are done. Raises `StuckError`."""
        for number, job in enumerate(self._jobs):
            event = _Event(_What.ARRIVAL, jobs=(number,))
            self._events.append((job.at, event.what, number, event))
        self._scheduled = len(self._jobs)
        heapify(self._events)
        self._policy.begin(self._jobs, self._nodes)
        for node in self._nodes:
            self._plan_failure(node)
        events = self._events
        while self._done < len(self._jobs):
            if not events:
                raise StuckError(
                    f"{len(self._jobs) - self._done} jobs wait, and nothing will happen"
                )
            self._now = events[0][0]
            arrived: list[int] = []
            while events and events[0][0] <= self._now:
                event = heappop(events)[3]
                if event.what is _What.ARRIVAL:
                    arrived.extend(event.jobs)
                else:
                    self._happen(event)
            if arrived:
                self._policy.arrive(arrived, self._now)
            for given in self._policy.choose(self._now):
                self._start(given.job, given.node)
            self._plan_wake()
        return self._outcome

    def _at(self, at: float, event: _Event) -> None:
        self._scheduled += 1
        heappush(self._events, (at, event.what, self._scheduled, event))

    def _plan_wake(self) -> None:
        wake = self._policy.next_wake(self._now)
        if wake is None:
            return
        # The clock must advance, even if the policy returns an earlier time.
        wake = max(wake, self._now + 0.001)
        planned = self._woken_at
        if planned is None or planned <= self._now or wake < planned:
            self._woken_at = wake
            self._at(wake, _Event(_What.WAKE))

    def _plan_failure(self, node: Node) -> None:
        if self._cluster.mtbf_s:
            lives_s = self._failures[node.number].expovariate(1 / self._cluster.mtbf_s)
            self._at(self._now + lives_s, _Event(_What.FAILURE, node))

    def _happen(self, event: _Event) -> None:
        node = event.node
        if node is None:
            return
        if event.what is _What.FAILURE:
            self._fail(node)
        elif event.what is _What.LEASES_LAPSED:
            self._policy.expired(node, self._now)
        elif event.what is _What.REPAIR:
            node.up = True
            self._policy.repaired(node, self._now)
            for _ in range(self._cluster.slots):
                node.free += 1
                self._policy.slot_free(node, self._now)
            self._plan_failure(node)
        elif event.life != node.life:
            return
        elif event.what is _What.FILES_CAME:
            added, deleted = node.keep(event.fetched)
            if added or deleted:
                self._policy.changed(node, added, deleted, self._now)
        elif event.what is _What.JOB_ENDED:
            for job in event.jobs:
                del node.running[job]
                self._outcome.end[job] = self._now
                self._done += 1
                node.free += 1
                self._policy.slot_free(node, self._now)

    def _start(self, number: int, node: Node) -> None:
        if node.free <= 0:
            raise StuckError(
                f"job {number} was given to node {node.number}, which has no free slot"
            )
        job, outcome = self._jobs[number], self._outcome
        outcome.wait_s[number] += self._now - self._since[number]
        staged = node.stage(job.inputs, self._now, self._cluster.bytes_per_s)
        outcome.moved_bytes += staged.moved_bytes
        outcome.input_bytes += sum(size for _, size in job.inputs)
        outcome.hits += staged.hits
        outcome.reads += len(job.inputs)
        node.free -= 1
        node.running[number] = self._now
        if staged.fetched:
            self._at(staged.came, _Event(_What.FILES_CAME, node, node.life, (), staged.fetched))
        self._at(staged.ready + job.runtime_s, _Event(_What.JOB_ENDED, node, node.life, (number,)))

    def _fail(self, node: Node) -> None:
        lost = node.fail()
        self._policy.failed(node, self._now)
        self._outcome.lost_attempts += len(lost)
        beat_s = self._cluster.heartbeat_s
        for job, given_at in lost.items():
            # The lease was last renewed by the last heartbeat before the failure.
            last = given_at + (self._now - given_at) // beat_s * beat_s
            lapse = last + self._cluster.lease_s
            self._since[job] = lapse
            self._at(lapse, _Event(_What.ARRIVAL, jobs=(job,)))
        self._at(self._now + self._cluster.lease_s, _Event(_What.LEASES_LAPSED, node))
        self._at(self._now + self._cluster.repair_s, _Event(_What.REPAIR, node))
