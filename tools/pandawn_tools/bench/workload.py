"""The synthetic workload of the benchmark: datasets, tasks over them, and the files of nodes. Pure and repeatable.

It follows the published properties of ATLAS jobs at NDGF: 6.6 inputs per job, log-normal sizes with a mean of
338 MB, each file read by 3.9 jobs. The jobs of a task read one dataset, new datasets are in use and in the
caches, and nearly all jobs read a small hot set.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

from pandawn_server.domain.catalog.file_version import file_version

SITE = "NDGF"
SCOPE = "mc12_8TeV"

JOBS_PER_TASK = 500
FILES_PER_DATASET = 850
MEAN_INPUTS = 6.6
MEAN_BYTES = 338e6
SIGMA = 0.8
"""The standard deviation of the logarithm of file sizes."""

TASKS_PER_DATASET = 3.9 * FILES_PER_DATASET / (JOBS_PER_TASK * (MEAN_INPUTS - 1))
"""Such that each file of a dataset is read by 3.9 jobs; one input of a job is from the hot set."""

HOT_FILES = 20
MAX_JOB_BYTES = 14_336 * 1024**2
"""The default limit of a queue; larger jobs are refused at submission."""

RUN_FILES = 7
"""The number of consecutive files that a node holds: about those of one job."""

GROUP_RUNS = 35
GROUPS_PER_NODE = 2
GROUPS_PER_DATASET = 8
CACHED_DATASETS = 300
"""The number of datasets of which some node holds a part."""

TASKS_AT_ONCE = 32
"""The number of tasks whose jobs are cached."""

HOT_PER_NODE = 10
FILES_PER_NODE = GROUPS_PER_NODE * GROUP_RUNS * RUN_FILES + HOT_PER_NODE


@dataclass(frozen=True, slots=True)
class BenchFile:
    """A file of the workload."""

    lfn: str
    guid: str
    size_bytes: int
    checksum: str
    version: str

    @property
    def url(self) -> str:
        """Its URL at the site."""
        return _url(self.guid, self.lfn)


@dataclass(frozen=True, slots=True)
class BenchJob:
    """A job: its number, that of its task, and its inputs."""

    number: int
    task: int
    inputs: tuple[BenchFile, ...]

    @property
    def input_bytes(self) -> int:
        """Sum of the input sizes."""
        return sum(file.size_bytes for file in self.inputs)


def node_name(number: int) -> str:
    """Full host name of a node."""
    return f"wn{number:05d}.grid.ndgf.org"


def dataset_of(position: int) -> int:
    """The dataset of the task at a position of its queue."""
    return int(position / TASKS_PER_DATASET)


def priority_of(task: int) -> int:
    """Priorities of tasks are spread over three bands of the default width."""
    return random.Random(f"priority {task}").randrange(300)


@lru_cache(maxsize=512)
def dataset(number: int) -> tuple[BenchFile, ...]:
    """The files of a dataset."""
    return _files(f"NTUP_COMMON.{1_200_000 + number:08d}", f"dataset {number}", FILES_PER_DATASET)


@lru_cache(maxsize=1)
def hot_files() -> tuple[BenchFile, ...]:
    """The hot set: conditions data."""
    return _files("COND.00000001", "hot", HOT_FILES)


def _files(stem: str, seed: str, count: int) -> tuple[BenchFile, ...]:
    rng = random.Random(seed)
    mu = math.log(MEAN_BYTES) - SIGMA**2 / 2
    files = []
    for number in range(1, count + 1):
        raw = f"{rng.getrandbits(128):032X}"
        guid = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
        lfn = f"{stem}._{number:06d}.pool.root.1"
        size_bytes = int(rng.lognormvariate(mu, SIGMA))
        checksum = f"adler32:{rng.getrandbits(32):08x}"
        # As the server computes it.
        version = file_version(_url(guid, lfn), checksum=checksum)
        files.append(BenchFile(lfn, guid, size_bytes, checksum, version))
    return tuple(files)


def _url(guid: str, lfn: str) -> str:
    return f"file:///atlas/atlasdatadisk/rucio/{SCOPE}/{guid[:2]}/{guid[2:4]}/{lfn}"


@lru_cache(maxsize=2 * TASKS_AT_ONCE)
def jobs_of(task: int, dataset_number: int) -> tuple[BenchJob, ...]:
    """The jobs of a task over a dataset; each also reads one hot file."""
    rng = random.Random(f"task {task}")
    files = dataset(dataset_number)
    hot = hot_files()
    at = rng.randrange(len(files))
    jobs = []
    for index in range(JOBS_PER_TASK):
        # Geometric, at least one: most jobs read a few files, some read many.
        count = 1 + min(30, int(rng.expovariate(1 / (MEAN_INPUTS - 2 + 0.5))))
        inputs = [hot[int(rng.random() * len(hot))]]
        total = inputs[0].size_bytes
        for _ in range(count):
            file = files[at % len(files)]
            total += file.size_bytes
            if total > MAX_JOB_BYTES:
                break
            inputs.append(file)
            at += 1
        jobs.append(BenchJob(task * JOBS_PER_TASK + index, task, tuple(inputs)))
    return tuple(jobs)


def group(dataset_number: int, variant: int) -> tuple[BenchFile, ...]:
    """The files of a dataset that earlier jobs left on a node: a few runs of consecutive files."""
    rng = random.Random(f"group {dataset_number} {variant}")
    files = dataset(dataset_number)
    runs = rng.sample(range(len(files) // RUN_FILES), GROUP_RUNS)
    return tuple(file for run in runs for file in files[run * RUN_FILES : (run + 1) * RUN_FILES])


def groups_of(node: int, datasets: int) -> list[tuple[int, int]]:
    """The (dataset, variant) of the groups that a node holds, among the first `datasets`.

    Most nodes hold low numbers, which the jobs at the head of the queues read; no node holds high ones.
    """
    rng = random.Random(f"node {node}")
    cached = min(datasets, CACHED_DATASETS)
    chosen: dict[int, int] = {}
    while len(chosen) < min(GROUPS_PER_NODE, cached):
        chosen[int(cached * rng.random() ** 3)] = rng.randrange(GROUPS_PER_DATASET)
    return list(chosen.items())
