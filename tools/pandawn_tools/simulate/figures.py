"""The figures of a run: saved bytes, waiting times, and fairness."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from pandawn_tools.simulate.workload import SimJob
from pandawn_tools.simulate.world import Outcome


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one policy. Hits are fractions of all reads, by bytes and by files.

    Times are in seconds. `makespan_s` and `t95_s` are from the first arrival until all, or 95 % of the jobs, have
    ended. A wait is the time that a job was runnable without a slot. `jain_fairness` is over tasks, see `fairness`.
    """

    byte_hit: float
    file_hit: float
    moved_bytes: int
    makespan_s: float
    t95_s: float
    wait_p50_s: float
    wait_p99_s: float
    jain_fairness: float
    max_wait_s: float


def figures(jobs: Sequence[SimJob], outcome: Outcome) -> Figures:
    """The figures of a run over `jobs`, which must not be empty."""
    first = jobs[0].at
    ends = sorted(outcome.end)
    waits = sorted(outcome.wait_s)
    return Figures(
        byte_hit=1 - outcome.moved_bytes / outcome.input_bytes if outcome.input_bytes else 0.0,
        file_hit=outcome.hits / outcome.reads if outcome.reads else 0.0,
        moved_bytes=outcome.moved_bytes,
        makespan_s=ends[-1] - first,
        t95_s=quantile(ends, 0.95) - first,
        wait_p50_s=quantile(waits, 0.5),
        wait_p99_s=quantile(waits, 0.99),
        jain_fairness=fairness(jobs, outcome),
        max_wait_s=waits[-1],
    )


def quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that at least a fraction `part` of all values do not exceed; `ordered` is not empty."""
    return ordered[max(ceil(part * len(ordered)) - 1, 0)]


def fairness(jobs: Sequence[SimJob], outcome: Outcome) -> float:
    """Jain's index over tasks: (sum x)^2 / (n sum x^2), 1 if all are served equally, 1/n if only one is.

    x is the fraction of a task's time in the system in which it ran: the run time of its jobs divided by their run
    time plus wait. (R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984.)
    """
    ran: dict[int, float] = defaultdict(float)
    waited: dict[int, float] = defaultdict(float)
    for number, job in enumerate(jobs):
        ran[job.task] += job.runtime_s
        waited[job.task] += outcome.wait_s[number]
    shares = [ran[task] / total if (total := ran[task] + waited[task]) else 1.0 for task in ran]
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
