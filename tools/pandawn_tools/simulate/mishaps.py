"""Draws the tasks with mistakes and the broken nodes of `pandawn simulate-faults`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import exp, log
from random import Random

BAD_TASKS = 0.3
"""The fraction of tasks with a user's mistake."""

BAD_NODES = 0.03
"""The fraction of nodes that break at some time."""

STAGE_IN_S = 60.0
"""The duration of a stage-in."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A user's mistake: a fraction `jobs` of the jobs fails with `reason` after a fraction `part` of the run time.

    `share` is the fraction of the bad tasks with this mistake. With `passing` each attempt is drawn separately;
    otherwise the same jobs fail on every node.
    """

    reason: str
    part: float
    jobs: float
    share: float
    passing: bool = False


MISTAKES = (
    Mistake("PAYLOAD_FAILED", part=0.01, jobs=1.0, share=0.3),
    Mistake("PAYLOAD_FAILED", part=0.6, jobs=0.2, share=0.15),
    Mistake("PAYLOAD_FAILED", part=0.5, jobs=0.1, share=0.1, passing=True),
    Mistake("PAYLOAD_NOT_FOUND", part=0.0, jobs=1.0, share=0.1),
    Mistake("INPUT_MISSING", part=0.0, jobs=0.1, share=0.1),
    Mistake("MEMORY_EXCEEDED", part=0.5, jobs=0.3, share=0.1),
    Mistake("WALL_TIME_EXCEEDED", part=1.0, jobs=1.0, share=0.1),
    Mistake("OUTPUT_MISSING", part=1.0, jobs=1.0, share=0.05),
)
"""The most frequent failures of analyses at Tier 2 sites, in about this order."""


class Sort(Enum):
    """How a node is broken."""

    NO_PROGRAM = "no program"
    NO_EXEC = "no exec"
    FULL_DISK = "full disk"
    SLOW = "slow"
    WRONG_BYTES = "wrong bytes"


SLOW_FACTOR = 6.0
"""The factor by which payloads take longer on a slow node."""


@dataclass(frozen=True, slots=True)
class Broken:
    """How and when a node breaks."""

    sort: Sort
    since: float


@dataclass(frozen=True, slots=True)
class MishapTask:
    """A task: jobs that arrive together, and their mistake."""

    task_id: int
    user: str
    arrival: float
    runtimes: tuple[float, ...]
    mistake: Mistake | None
    failing: frozenset[int]
    wall_s: float | None


def draw_tasks(rng: Random, jobs: int, users: int, span_s: float) -> list[MishapTask]:
    """Draws tasks, with a mean of 40 jobs of 40 min, that arrive over `span_s` seconds."""
    tasks: list[MishapTask] = []
    left = jobs
    while left > 0:
        size = min(left, max(1, int(_lognormal(rng, 40, 1.0))))
        mean = _lognormal(rng, 2400, 0.6)
        runtimes = tuple(max(60.0, _lognormal(rng, mean, 0.3)) for _ in range(size))
        mistake = None
        if rng.random() < BAD_TASKS:
            (mistake,) = rng.choices(MISTAKES, [m.share for m in MISTAKES])
        failing = frozenset(
            n for n in range(size) if mistake is not None and rng.random() < mistake.jobs
        )
        # Some users know how long their jobs take.
        wall_s = max(runtimes) * 1.5 if rng.random() < 0.3 else None
        # A few users submit most tasks: of forty users the busiest submits a fifth, the busiest five half.
        (user,) = rng.choices(range(users), [1 / (n + 1) for n in range(users)])
        tasks.append(
            MishapTask(
                len(tasks) + 1,
                f"user{user}",
                rng.random() * span_s,
                runtimes,
                mistake,
                failing,
                wall_s,
            )
        )
        left -= size
    return sorted(tasks, key=lambda task: task.arrival)


def draw_broken(rng: Random, nodes: int, span_s: float) -> dict[int, Broken]:
    """Draws the nodes that break, equally many of each sort, half of them from the beginning."""
    sorts = list(Sort)
    count = max(len(sorts), round(nodes * BAD_NODES))
    chosen = rng.sample(range(nodes), count)
    return {
        number: Broken(sorts[place % len(sorts)], 0.0 if place % 2 else rng.random() * span_s / 2)
        for place, number in enumerate(chosen)
    }


def _lognormal(rng: Random, mean: float, sigma: float) -> float:
    return exp(rng.gauss(log(mean) - sigma * sigma / 2, sigma))
