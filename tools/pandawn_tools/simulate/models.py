"""Model workloads: the published properties of ATLAS work at NDGF, and the opposite.

The figures are from "ATLAS workload at NDGF", Feb-Jul 2011 (Karpenko, Vitenberg, Read, SC'12 companion):
6.6 inputs per job, 338 MB per input, 11.07 million downloads of 2.84 million files. Properties that are not
published (how tasks split datasets, and which they read again) are parameters; `docs/simulation.md` explains
the defaults.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Final

from pandawn_tools.simulate.workload import SimJob

_ROUNDS: Final = 12
"""Attempts to reach the requested number of inputs per job: the last job of each dataset is shorter."""

_TOLERANCE: Final = 0.003
"""The relative error allowed for the number of inputs per job."""

_PULL: Final = 2
"""How strongly the reads per file are steered to the requested number while tasks are drawn."""


@dataclass(frozen=True, slots=True)
class Model:
    """Parameters of both models; sigmas are those of log-normal distributions.

    A task reads a dataset of `dataset_files` files, split into jobs. The dataset is new or was read before: with
    probability `reuse_any` any of these, otherwise a recent one (exponential with `reuse_depth`). With probability
    `own_cut` the task uses another number of files per job than the first reader. With probability `hot_share` a job
    also reads one of `hot_files` small files. `reads` is how often each of the other files is read. `mean_mb` is the
    mean over all inputs of jobs.
    """

    jobs: int = 83_000
    hours: float = 24.0
    inputs: float = 6.6
    mean_mb: float = 338.0
    size_sigma: float = 1.0
    reads: float = 3.9
    dataset_files: float = 100.0
    dataset_sigma: float = 0.8
    cut_sigma: float = 0.5
    own_cut: float = 0.5
    reuse_depth: float = 60.0
    reuse_any: float = 0.2
    hot_files: int = 20
    hot_share: float = 0.9
    hot_mb: float = 12.0
    runtime_s: float = 2400.0
    runtime_sigma: float = 0.8


@dataclass(slots=True)
class _Plan:
    """Datasets by number of files; tasks by dataset and number of files per job."""

    datasets: list[int] = field(default_factory=list)
    tasks: list[tuple[int, int]] = field(default_factory=list)
    jobs: int = 0
    reads: int = 0
    files: int = 0


def ndgf(model: Model, seed: int) -> list[SimJob]:
    """Tasks over whole datasets, most of which are read again soon."""
    hot_share = min(model.hot_share, model.inputs) if model.hot_files else 0.0
    wanted = model.inputs - hot_share
    scale = 1.0
    plan = _plan(model, wanted, seed)
    for _ in range(_ROUNDS):
        if not wanted or abs(plan.reads / plan.jobs / wanted - 1) < _TOLERANCE:
            break
        scale *= wanted * plan.jobs / plan.reads
        plan = _plan(model, wanted * scale, seed)
    draw = random.Random(seed + 1)
    hot = [(number, _size(draw, model.hot_mb, 0.5)) for number in range(model.hot_files)]
    mean_mb = model.mean_mb
    if wanted:
        mean_mb = max((model.mean_mb * model.inputs - model.hot_mb * hot_share) / wanted, 0.001)
    datasets: list[list[tuple[int, int]]] = []
    number = model.hot_files
    for count in plan.datasets:
        datasets.append(
            [(number + i, _size(draw, mean_mb, model.size_sigma)) for i in range(count)]
        )
        number += count
    span_s = model.hours * 3600
    starts = sorted(draw.random() * span_s for _ in plan.tasks)
    jobs: list[SimJob] = []
    for task, (at, (dataset, cut)) in enumerate(zip(starts, plan.tasks, strict=True), start=1):
        files = datasets[dataset]
        for first in range(0, len(files), cut):
            inputs = files[first : first + cut]
            if draw.random() < hot_share:
                inputs = [*inputs, hot[draw.randrange(len(hot))]]
            jobs.append(SimJob(at, task, 0, _runtime(draw, model), tuple(inputs)))
    return jobs[: model.jobs]


def _plan(model: Model, cut: float, seed: int) -> _Plan:
    draw = random.Random(seed)
    plan = _Plan()
    # The number of files per job is log-normal, and its mean over *jobs* is given: fewer files mean more jobs.
    mu = math.log(max(cut, 0.01)) + model.cut_sigma**2 / 2
    first_cut: list[int] = []
    latest: list[int] = []

    def drawn_cut() -> int:
        return max(1, round(draw.lognormvariate(mu, model.cut_sigma)))

    while plan.jobs < model.jobs:
        excess = plan.reads / plan.files / model.reads if plan.files else math.inf
        if not latest or draw.random() < min(1.0, excess**_PULL / model.reads):
            dataset = len(plan.datasets)
            count = max(1, round(_lognormal(draw, model.dataset_files, model.dataset_sigma)))
            plan.datasets.append(count)
            plan.files += count
            first_cut.append(drawn_cut())
        else:
            if draw.random() < model.reuse_any:
                position = draw.randrange(len(latest))
            else:
                depth = draw.expovariate(1 / model.reuse_depth)
                position = min(int(depth), len(latest) - 1)
            dataset = latest.pop(position)
            count = plan.datasets[dataset]
        latest.insert(0, dataset)
        own = drawn_cut() if draw.random() < model.own_cut else first_cut[dataset]
        plan.tasks.append((dataset, own))
        plan.jobs += -(-count // own)
        plan.reads += count
    return plan


def scattered(model: Model, seed: int) -> list[SimJob]:
    """Jobs with nothing in common: each reads files drawn uniformly from all."""
    draw = random.Random(seed)
    files = max(1, round(model.jobs * model.inputs / model.reads))
    sizes = [_size(draw, model.mean_mb, model.size_sigma) for _ in range(files)]
    # An integer number of files per job, and one more for some jobs.
    whole, rest = divmod(model.inputs, 1)
    span_s = model.hours * 3600
    jobs: list[SimJob] = []
    for task, at in enumerate(sorted(draw.random() * span_s for _ in range(model.jobs)), start=1):
        count = min(int(whole) + (draw.random() < rest), files)
        chosen = {draw.randrange(files): None for _ in range(count)}
        inputs = tuple([(file, sizes[file]) for file in chosen])
        jobs.append(SimJob(at, task, 0, _runtime(draw, model), inputs))
    return jobs


MODELS: Final = {"ndgf": ndgf, "scattered": scattered}
"""The models by name."""


def _lognormal(draw: random.Random, mean: float, sigma: float) -> float:
    return draw.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)


def _size(draw: random.Random, mean_mb: float, sigma: float) -> int:
    return max(1, int(_lognormal(draw, mean_mb, sigma) * 1e6)) if mean_mb > 0 else 1


def _runtime(draw: random.Random, model: Model) -> float:
    return _lognormal(draw, model.runtime_s, model.runtime_sigma)
