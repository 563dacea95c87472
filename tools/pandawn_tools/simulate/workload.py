"""The jobs of a simulation, sorted by the time when they become runnable, and their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random


@dataclass(frozen=True, slots=True)
class SimJob:
    """A job: runnable `at` seconds after the start; `inputs` are files by number, with sizes in bytes.

    `task` is the number of its task, from 1.
    """

    at: float
    task: int
    priority: int
    runtime_s: float
    inputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of a workload. `bound_*_hit` is the hit rate of one infinite cache shared by all nodes."""

    jobs: int
    tasks: int
    files: int
    inputs_per_job: float
    mean_input_bytes: float
    reads_per_file: float
    input_bytes: int
    mean_runtime_s: float
    hours: float
    bound_byte_hit: float
    bound_file_hit: float


def statistics(jobs: Sequence[SimJob]) -> Statistics:
    """Computes the statistics of `jobs`, which must not be empty. Fractions are 0 if nothing is read."""
    sizes: dict[int, int] = {}
    reads = input_bytes = 0
    for job in jobs:
        reads += len(job.inputs)
        for file, size in job.inputs:
            input_bytes += size
            sizes[file] = size
    return Statistics(
        jobs=len(jobs),
        tasks=len({job.task for job in jobs}),
        files=len(sizes),
        inputs_per_job=reads / len(jobs),
        mean_input_bytes=input_bytes / reads if reads else 0.0,
        reads_per_file=reads / len(sizes) if sizes else 0.0,
        input_bytes=input_bytes,
        mean_runtime_s=sum(job.runtime_s for job in jobs) / len(jobs),
        hours=(jobs[-1].at - jobs[0].at) / 3600,
        bound_byte_hit=1 - sum(sizes.values()) / input_bytes if input_bytes else 0.0,
        bound_file_hit=1 - len(sizes) / reads if reads else 0.0,
    )


def stretched(jobs: Sequence[SimJob], hours: float) -> list[SimJob]:
    """The same jobs, with arrivals scaled to `hours`."""
    first, span = jobs[0].at, jobs[-1].at - jobs[0].at
    factor = hours * 3600 / span if span else 0.0
    return [replace(job, at=(job.at - first) * factor) for job in jobs]


def rewritten(jobs: Sequence[SimJob], share: float, seed: int) -> list[SimJob]:
    """The same jobs, but a fraction `share` of the files is rewritten once, at some time while jobs arrive.

    A job reads the version that exists when it arrives. A new version is another file of the same size, so
    that cached copies of the old one serve only jobs that arrived earlier. `jobs` are sorted by time.
    """
    rng = Random(f"rewritten {seed}")
    files = sorted({file for job in jobs for file, _ in job.inputs})
    first, last = jobs[0].at, jobs[-1].at
    times = {file: rng.uniform(first, last) for file in files if rng.random() < share}
    new = {file: number for number, file in enumerate(times, start=files[-1] + 1)} if files else {}

    def now(file: int, at: float) -> int:
        return new[file] if file in times and at >= times[file] else file

    return [
        replace(job, inputs=tuple((now(file, job.at), size) for file, size in job.inputs))
        for job in jobs
    ]


def hours_for(jobs: Sequence[SimJob], load: float, slots: int) -> float:
    """The span of arrivals, in hours, for which the jobs need `load` times the capacity of `slots` slots."""
    return sum(job.runtime_s for job in jobs) / slots / load / 3600
