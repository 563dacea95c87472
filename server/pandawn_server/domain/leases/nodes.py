"""Decides which worker nodes get jobs, from failures of users and tasks there compared with other nodes.

A user's mistake fails everywhere; a broken node fails everybody's jobs. So the weight of a failure against a node is
how much likelier it is on a broken node than for the same task elsewhere. The total weight of one user's jobs is
bounded, so that at least two users must be affected. `docs/faults.md` has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from statistics import median
from typing import assert_never

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import NotFoundError
from pandawn_server.domain.leases.faults import ROOM, SILENCE, Evidence, Fault, Kind, Step

WINDOW = 40
"""The number of latest attempts on a node that are evaluated."""

BROKEN = 0.9
"""Probability that an attempt fails on a broken node."""

HEALTHY = 0.1
"""Lower bound for the probability that it fails elsewhere: a few jobs give no better estimate."""

ONE_FAILURE = math.log(BROKEN / HEALTHY)
"""The largest weight of a failure, and the weight of each success."""

ENOUGH = 3 * ONE_FAILURE
"""The weight that suspends a node: three failures of jobs that succeed elsewhere, with no success among them."""

OF_ONE_USER = ENOUGH / 2
"""Upper bound for the total weight of one user's jobs: less than two failures."""

OF_ONE_USERS_CODE = ENOUGH / 4
"""Upper bound for those of one user's jobs whose failure may be caused by the code."""

KNOWN_ELSEWHERE = 3
"""Attempts elsewhere needed for a task's failure rate. With fewer the rate is unknown, and failures weigh nothing."""

SLOW = 3.0
"""A payload that takes this many times the median elsewhere counts as a failure of the node."""

RATHER_SLOW = 2.0
"""A payload that takes this many times the median does not count as a success of the node."""

SLOW_BY = timedelta(minutes=1)
"""A slow payload must also exceed the median by this: the times of short jobs vary by chance."""

ONE_INCIDENT = timedelta(minutes=1)
"""Pilots whose heartbeats stop within this time are one incident, for example a reboot."""

FIRST_SUSPENSION = timedelta(minutes=10)
LONGEST_SUSPENSION = timedelta(hours=4)
"""Each further suspension within `MEMORY` lasts twice as long, up to this."""

MEMORY = timedelta(days=1)
"""For how long after a suspension the next one is longer."""

DOUBT = timedelta(minutes=10)
"""For how long a node gets no jobs of a user whose jobs fail there but not elsewhere, if there are other nodes."""

GOOD_PROBES = 3
"""Jobs that must succeed, one at a time, before a suspended node fills its slots again."""


class Condition(Enum):
    """Whether a node gets jobs."""

    OPEN = "open"
    SUSPENDED = "suspended"
    """No jobs, for a time or until an operator resumes the node."""
    PROBATION = "probation"
    """One job at a time."""
    DRAINED = "drained"
    """No jobs, and its pilots end after their jobs."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `until` is None while it gets jobs, and if the operator `by` must lift its restriction.

    `good_probes` counts the successful jobs of this probation, `suspensions` the suspensions in a row. Attempts
    before `judged_since` are no evidence. `evidence` describes the attempts that led to the last suspension.
    """

    key: NodeKey
    contact_time: datetime
    is_drained: bool = False
    is_suspended: bool = False
    until: datetime | None = None
    reason: str = ""
    by: str = ""
    good_probes: int = 0
    suspensions: int = 0
    change_time: datetime | None = None
    judged_since: datetime | None = None
    evidence: tuple[str, ...] = ()

    def condition(self, now: datetime) -> Condition:
        """Whether the node gets jobs at time `now`."""
        if self.is_drained:
            return Condition.DRAINED
        if not self.is_suspended:
            return Condition.OPEN
        if self.until is None or now < self.until:
            return Condition.SUSPENDED
        return Condition.PROBATION

    def gets_none(self, now: datetime) -> bool:
        """Whether the node gets no jobs at time `now`."""
        return self.condition(now) in {Condition.SUSPENDED, Condition.DRAINED}


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """How an attempt on a node ended. `fault` is None if it succeeded; `payload` is the time its payload took.

    `start_time` matters: an attempt that started before the node broke may still succeed afterwards.
    """

    job_id: int
    task_id: int
    user: str
    fault: Fault | None
    end_time: datetime
    payload: timedelta | None = None
    start_time: datetime | None = None

    @property
    def begun(self) -> datetime:
        """When it started; if that is unknown, when it ended."""
        return self.start_time or self.end_time


@dataclass(slots=True)
class Elsewhere:
    """A task's record on other nodes: attempts by last step passed, failures by class, payload times in seconds.

    Running jobs count too, for the steps that they have passed.
    """

    passed: dict[Step, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    payloads: list[float] = field(default_factory=list)

    def record(self, fault: Fault | None, payload: timedelta | None = None) -> None:
        """Adds an attempt that ended."""
        if fault is None:
            self.record_passed(Step.STAGE_OUT)
            if payload is not None:
                self.payloads.append(payload.total_seconds())
        else:
            self.failed[fault.kind.name] = self.failed.get(fault.kind.name, 0) + 1
            if fault.step > Step.BEGIN:
                self.record_passed(Step(fault.step - 1))

    def record_passed(self, step: Step) -> None:
        """Adds an attempt that has passed `step`."""
        self.passed[step] = self.passed.get(step, 0) + 1

    def rate(self, fault: Fault) -> float | None:
        """The fraction of attempts with a fault of this class; None if too few attempts are known."""
        bad = self.failed.get(fault.kind.name, 0)
        good = sum(count for step, count in self.passed.items() if step >= fault.step)
        if good + bad < KNOWN_ELSEWHERE:
            return None
        return (bad + 0.5) / (good + bad + 1)

    def is_slow(self, payload: timedelta | None, times: float = SLOW) -> bool:
        """Whether a payload took much longer than the median elsewhere."""
        if payload is None or len(self.payloads) < KNOWN_ELSEWHERE:
            return False
        return much_longer(payload.total_seconds(), median(self.payloads), times)


def much_longer(payload_s: float, usual_s: float, times: float = SLOW) -> bool:
    """Whether a payload took so much longer than `usual_s` that its node is to blame."""
    return payload_s > usual_s * times and payload_s - usual_s > SLOW_BY.total_seconds()


NOWHERE = Elsewhere()

SLOW_NODE = Fault(
    "SLOW",
    Kind("slow", SILENCE.blame, SILENCE.count, evidence=Evidence.COMPARED),
    Step.PAYLOAD,
    "the payload took several times as long as those of the same task elsewhere",
)
"""The fault of an attempt that succeeded but took far too long."""


def weight(fault: Fault, elsewhere: Elsewhere) -> float:
    """The weight of a failure against the node on which it happened."""
    evidence = fault.kind.evidence
    if evidence is Evidence.NONE:
        return 0.0
    if evidence is Evidence.OWN or fault is SLOW_NODE:
        return ONE_FAILURE
    rate = elsewhere.rate(fault)
    if rate is None:
        # A full disk counts without a comparison: jobs that are too large for every node are rare.
        return ONE_FAILURE / 2 if fault.kind is ROOM else 0.0
    return max(0.0, math.log(BROKEN / max(rate, HEALTHY)))


@dataclass(frozen=True, slots=True)
class Case:
    """The evidence against a node: its weight, and how many users and jobs failed for which reasons."""

    weight: float
    users: int
    jobs: int
    reasons: tuple[str, ...]
    exhausted: frozenset[str] = frozenset()
    """Users whose jobs have reached their bound: more of them would add no weight."""

    @property
    def is_enough(self) -> bool:
        """Whether the node is to be suspended."""
        # The tolerance is for rounding in the sum of logarithms.
        return self.weight > ENOUGH - 1e-6 and self.users > 1

    def summary(self) -> str:
        """The case in one sentence."""
        return (
            f"{self.jobs} jobs of {self.users} users failed here but not elsewhere ({', '.join(self.reasons)}); "
            "check their logs and the node's disks, network and software"
        )


def needs_comparison(window: Sequence[EndedAttempt], *, slow: bool = False) -> bool:
    """Whether a comparison with other nodes is worth its cost: the last two attempts failed, or several users' did.

    With `slow` successful attempts may count as failures too.
    """
    bad = [
        a
        for a in window
        if (slow if a.fault is None else a.fault.kind.evidence is not Evidence.NONE)
    ]
    return len({a.user for a in bad}) > 1 or (len(bad) > 1 and bad[:2] == list(window[:2]))


def case_against(window: Sequence[EndedAttempt], elsewhere: Mapping[int, Elsewhere]) -> Case:
    """The strongest case that the last attempts on a node make against it.

    Tries each start time and counts the attempts that started since: the node may have broken at that time.
    """
    best = Case(0.0, 0, 0, ())
    strong: dict[str, float] = {}
    weak: dict[str, float] = {}
    reasons: dict[str, int] = {}
    jobs: set[int] = set()
    silent_at: datetime | None = None
    good = 0
    for attempt in sorted(window, key=lambda a: a.begun, reverse=True):
        there = elsewhere.get(attempt.task_id, NOWHERE)
        fault = attempt.fault
        if fault is None:
            if not there.is_slow(attempt.payload):
                good += not there.is_slow(attempt.payload, RATHER_SLOW)
                continue
            fault = SLOW_NODE
        weighs = weight(fault, there)
        if not weighs or attempt.job_id in jobs:
            continue
        if fault.kind is SILENCE:
            if silent_at is not None and silent_at - attempt.end_time < ONE_INCIDENT:
                continue
            silent_at = attempt.end_time
        jobs.add(attempt.job_id)
        side = weak if fault.kind.evidence is Evidence.WEAK else strong
        side[attempt.user] = side.get(attempt.user, 0.0) + weighs
        reasons[fault.reason or fault.kind.name] = reasons.get(fault.reason, 0) + 1
        users = strong.keys() | weak.keys()
        total = -good * ONE_FAILURE + sum(
            min(OF_ONE_USER, strong.get(u, 0.0) + min(OF_ONE_USERS_CODE, weak.get(u, 0.0)))
            for u in users
        )
        if total > best.weight:
            exhausted = frozenset(u for u in users if strong.get(u, 0.0) > OF_ONE_USER - 1e-6)
            best = Case(total, len(users), len(jobs), tuple(sorted(reasons)), exhausted)
    return best


def suspension(node: Node, now: datetime) -> tuple[int, timedelta]:
    """The number and the length of a suspension that starts now."""
    recent = node.change_time is not None and now - node.change_time < MEMORY
    number = node.suspensions + 1 if recent else 1
    return number, min(FIRST_SUSPENSION * 2 ** min(number - 1, 10), LONGEST_SUSPENSION)


class Probe(Enum):
    """What a job proves about a node on probation."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"


def probe(attempt: EndedAttempt, there: Elsewhere) -> Probe:
    """What an ended attempt proves about a node on probation; a user's own mistake proves nothing."""
    if attempt.fault is None:
        return Probe.BAD if there.is_slow(attempt.payload) else Probe.GOOD
    if attempt.fault.kind.evidence is Evidence.WEAK:
        return Probe.NOTHING
    return Probe.BAD if weight(attempt.fault, there) > ONE_FAILURE / 4 else Probe.NOTHING


def unknown_node(key: NodeKey) -> NotFoundError:
    """The error for a node from which no pilot or cache ever contacted the server."""
    return NotFoundError(
        "NODE_NOT_FOUND",
        f"node {key.node!r} at site {key.site!r} is unknown: no pilot or cache of it ever contacted the server; "
        "give the node's full host name as `pandawn nodes` lists it",
        metadata={"site": key.site, "node": key.node},
    )


def because_of_node(node: Node, now: datetime) -> str:
    """Why a node gets no jobs at time `now`, or fewer than it has slots; empty if it is unrestricted."""
    match node.condition(now):
        case Condition.DRAINED:
            return f"the node is drained by {node.by}: {node.reason}"
        case Condition.SUSPENDED if node.until is None:
            return (
                f"the node gets no jobs until {node.by or 'an operator'} resumes it: {node.reason}"
            )
        case Condition.SUSPENDED:
            return f"the node gets no jobs until {node.until:%H:%M:%S} UTC: {node.reason}"
        case Condition.PROBATION:
            return (
                f"the node is on probation: it gets one job at a time until {GOOD_PROBES} have succeeded "
                f"({node.good_probes} so far): {node.reason}"
            )
        case Condition.OPEN:
            return ""
        case other:
            assert_never(other)
