"""The jobs of a simulation, in the order in which they become runnable, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random


@dataclass(frozen=True, slots=True)
class SimJob:
    """A job: runnable `at` seconds after the beginning; `inputs` are files by number, with sizes in bytes.

    `task` is the number of its task, from 1 on.
    """

    at: float
    task: int
    priority: int
    runtime_s: float
    inputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a workload is like. `bound_*_hit` is what one infinite cache shared by all nodes would spare."""

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
    """Counts; `jobs` are not empty. Shares are 0 where nothing is read."""
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
    """The same jobs, arriving over another span of time."""
    first, span = jobs[0].at, jobs[-1].at - jobs[0].at
    factor = hours * 3600 / span if span else 0.0
    return [replace(job, at=(job.at - first) * factor) for job in jobs]


def rewritten(jobs: Sequence[SimJob], share: float, seed: int) -> list[SimJob]:
    """The same jobs, where a part of the files is written anew once, at some time while jobs arrive.

    A job reads the version that there is when it arrives: another file, of the same name and size.
    What caches have of the old one is of use to those who came before only. `jobs` in the order of time.
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
    """The span of arrivals, in hours, in which jobs ask for `load` times what `slots` slots can run in it."""
    return sum(job.runtime_s for job in jobs) / slots / load / 3600
