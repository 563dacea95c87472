"""Which worker nodes get jobs: evidence against them over users and tasks, compared with their neighbours'.

A user's mistake fails everywhere, a broken node fails everybody. So what a failure weighs against a node is how much
likelier it is on a broken one than it was for the same task elsewhere; what one user's jobs weigh together has a
bound, so that two users at least must have suffered. `docs/faults.md` has the numbers.
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
"""Attempts on a node that are looked at, the last ones."""

BROKEN = 0.9
"""How likely an attempt fails on a broken node."""

HEALTHY = 0.1
"""The least that is taken for how likely it fails elsewhere: nobody knows it better from a few jobs."""

ONE_FAILURE = math.log(BROKEN / HEALTHY)
"""What a failure weighs at most, and a success at all."""

ENOUGH = 3 * ONE_FAILURE
"""What suspends a node: as much as three failures of jobs that do well elsewhere, with no success among them."""

OF_ONE_USER = ENOUGH / 2
"""What the jobs of one user weigh together at most: less than two failures."""

OF_ONE_USERS_CODE = ENOUGH / 4
"""What those of one user weigh that failed in a way which his code may bring about."""

KNOWN_ELSEWHERE = 3
"""Attempts elsewhere from which a task's rate of failures is taken; with fewer it is not known, and nothing weighs."""

SLOW = 3.0
"""A payload that took so many times as long as the median elsewhere counts as a failure of the node."""

RATHER_SLOW = 2.0
"""One that took so many times as long says nothing for the node."""

SLOW_BY = timedelta(minutes=1)
"""And longer by this, at least: short jobs differ by chance."""

ONE_INCIDENT = timedelta(minutes=1)
"""Pilots that fall silent within this are one incident: a reboot, a full batch system."""

FIRST_SUSPENSION = timedelta(minutes=10)
LONGEST_SUSPENSION = timedelta(hours=4)
"""A node that is suspended again within `MEMORY` is so for twice as long, this at most."""

MEMORY = timedelta(days=1)
"""For how long a suspension is held against a node that was good again."""

DOUBT = timedelta(minutes=10)
"""For how long a node gets no jobs of a user whose jobs fail on it as they do not elsewhere, if there are others."""

GOOD_PROBES = 3
"""Jobs that must go well, one at a time, before a node that was suspended gets as many as it has slots."""


class Condition(Enum):
    """Whether a node gets jobs."""

    OPEN = "open"
    SUSPENDED = "suspended"
    """None, for a time or until somebody resumes it."""
    PROBATION = "probation"
    """One at a time."""
    DRAINED = "drained"
    """None, and its pilots end when their jobs have."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `until` is None while it gets jobs, and where an operator ends what he began (`by`).

    `good_probes` counts the jobs that went well since it is on probation, `suspensions` how often in a row it was
    suspended. Attempts before `judged_since` are no evidence; `evidence` is what the last suspension was about.
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
        """Whether it gets jobs now."""
        if self.is_drained:
            return Condition.DRAINED
        if not self.is_suspended:
            return Condition.OPEN
        if self.until is None or now < self.until:
            return Condition.SUSPENDED
        return Condition.PROBATION

    def gets_none(self, now: datetime) -> bool:
        """Whether it gets no jobs now."""
        return self.condition(now) in {Condition.SUSPENDED, Condition.DRAINED}


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """How an attempt on a node ended; `fault` is None when it went well. `payload` is how long its payload took.

    It began at `start_time`: what began before a node broke may end well after that.
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
        """When it began, as far as is known."""
        return self.start_time or self.end_time


@dataclass(slots=True)
class Elsewhere:
    """How a task did on other nodes: attempts by the step that they passed, failures by class, seconds of payloads.

    Jobs that run now count too: they have passed what they are beyond.
    """

    passed: dict[Step, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    payloads: list[float] = field(default_factory=list)

    def note(self, fault: Fault | None, payload: timedelta | None = None) -> None:
        """Takes in an attempt that ended."""
        if fault is None:
            self.note_passed(Step.STAGE_OUT)
            if payload is not None:
                self.payloads.append(payload.total_seconds())
        else:
            self.failed[fault.kind.name] = self.failed.get(fault.kind.name, 0) + 1
            if fault.step > Step.BEGIN:
                self.note_passed(Step(fault.step - 1))

    def note_passed(self, step: Step) -> None:
        """Takes in an attempt that has passed a step."""
        self.passed[step] = self.passed.get(step, 0) + 1

    def rate(self, fault: Fault) -> float | None:
        """The part of attempts that failed likewise; None where too few are known."""
        bad = self.failed.get(fault.kind.name, 0)
        good = sum(count for step, count in self.passed.items() if step >= fault.step)
        if good + bad < KNOWN_ELSEWHERE:
            return None
        return (bad + 0.5) / (good + bad + 1)

    def is_slow(self, payload: timedelta | None, times: float = SLOW) -> bool:
        """Whether a payload took much longer than elsewhere."""
        if payload is None or len(self.payloads) < KNOWN_ELSEWHERE:
            return False
        return much_longer(payload.total_seconds(), median(self.payloads), times)


def much_longer(payload_s: float, usual_s: float, times: float = SLOW) -> bool:
    """Whether a payload took so long that its node is to blame, where it usually takes `usual_s`."""
    return payload_s > usual_s * times and payload_s - usual_s > SLOW_BY.total_seconds()


NOWHERE = Elsewhere()

SLOW_NODE = Fault(
    "SLOW",
    Kind("slow", SILENCE.blame, SILENCE.count, evidence=Evidence.COMPARED),
    Step.PAYLOAD,
    "the payload took several times as long as the same task's elsewhere",
)
"""What is made of an attempt that went well, and took far too long."""


def weight(fault: Fault, elsewhere: Elsewhere) -> float:
    """What a failure weighs against the node on which it happened."""
    evidence = fault.kind.evidence
    if evidence is Evidence.NONE:
        return 0.0
    if evidence is Evidence.OWN or fault is SLOW_NODE:
        return ONE_FAILURE
    rate = elsewhere.rate(fault)
    if rate is None:
        # Of a full disk the node says itself that it has no room; a job too large for any node is seldom.
        return ONE_FAILURE / 2 if fault.kind is ROOM else 0.0
    return max(0.0, math.log(BROKEN / max(rate, HEALTHY)))


@dataclass(frozen=True, slots=True)
class Case:
    """What is held against a node: how much it weighs, and in words."""

    weight: float
    users: int
    jobs: int
    reasons: tuple[str, ...]
    heard: frozenset[str] = frozenset()
    """Users whose jobs weigh as much as they may: more of them would say no more."""

    @property
    def is_enough(self) -> bool:
        """Whether the node is to be suspended."""
        # A hair below: sums of logarithms are not exact.
        return self.weight > ENOUGH - 1e-6 and self.users > 1

    def told(self) -> str:
        """The case in a sentence."""
        return (
            f"{self.jobs} jobs of {self.users} users failed here as they do not elsewhere ({', '.join(self.reasons)}); "
            "look at their logs and at the node's disks, network and software"
        )


def is_worth_a_look(window: Sequence[EndedAttempt], *, slow: bool = False) -> bool:
    """Whether a look at the neighbours is worth its price: the last two failed, or several users' did.

    With `slow` attempts that went well may count as failures too.
    """
    bad = [
        a
        for a in window
        if (slow if a.fault is None else a.fault.kind.evidence is not Evidence.NONE)
    ]
    return len({a.user for a in bad}) > 1 or (len(bad) > 1 and bad[:2] == list(window[:2]))


def case_against(window: Sequence[EndedAttempt], elsewhere: Mapping[int, Elsewhere]) -> Case:
    """The strongest case that the last attempts on a node make against it.

    Of all times the one from which on what began weighs most: a node may have broken just then.
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
            heard = frozenset(u for u in users if strong.get(u, 0.0) > OF_ONE_USER - 1e-6)
            best = Case(total, len(users), len(jobs), tuple(sorted(reasons)), heard)
    return best


def suspension(node: Node, now: datetime) -> tuple[int, timedelta]:
    """The number of a suspension that begins now, and how long it is."""
    recent = node.change_time is not None and now - node.change_time < MEMORY
    number = node.suspensions + 1 if recent else 1
    return number, min(FIRST_SUSPENSION * 2 ** min(number - 1, 10), LONGEST_SUSPENSION)


class Probe(Enum):
    """What a job says of a node on probation."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"


def probe(attempt: EndedAttempt, there: Elsewhere) -> Probe:
    """What an attempt that ended says of a node on probation; a user's own mistake says nothing."""
    if attempt.fault is None:
        return Probe.BAD if there.is_slow(attempt.payload) else Probe.GOOD
    if attempt.fault.kind.evidence is Evidence.WEAK:
        return Probe.NOTHING
    return Probe.BAD if weight(attempt.fault, there) > ONE_FAILURE / 4 else Probe.NOTHING


def unknown_node(key: NodeKey) -> NotFoundError:
    """The error for a node that was never heard of."""
    return NotFoundError(
        "NODE_NOT_FOUND",
        f"no pilot or cache of node {key.node!r} at site {key.site!r} was ever heard of; "
        "`pandawn nodes` lists the nodes, and a node's full host name is needed",
        metadata={"site": key.site, "node": key.node},
    )


def because_of_node(node: Node, now: datetime) -> str:
    """Why a node gets no jobs now, or fewer than it has slots."""
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
                f"the node is on probation, and gets one job at a time until {GOOD_PROBES} went well "
                f"({node.good_probes} have): {node.reason}"
            )
        case Condition.OPEN:
            return ""
        case other:
            assert_never(other)
