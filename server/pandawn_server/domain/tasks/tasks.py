"""Tasks: what a user submits, how it is split into jobs, and the names and places of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from pandawn_server.domain.catalog.file_version import UNIQUE, file_version, is_unique
from pandawn_server.domain.errors import NotFoundError, Violation
from pandawn_server.domain.tasks.jobs import JobKind, JobState, Requirements

MAX_JOBS = 100_000
"""Maximum number of jobs of one task: one transaction inserts as many in seconds, not minutes."""

DEFAULT_MAX_ATTEMPTS = 3
"""Failed attempts after which a job fails, if the user gives no number; PanDA has the same default."""


class FileRole(Enum):
    """Role of a file in a job."""

    INPUT = "input"
    LIBRARY = "library"
    OUTPUT = "output"
    LOG = "log"


class File(NamedTuple):
    """A file with its location. Size in bytes; scope, guid, checksum and version are empty when unknown.

    `version` is as in `domain.catalog.file_version`.
    """

    lfn: str
    size_bytes: int
    url: str
    scope: str = ""
    guid: str = ""
    checksum: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a user submits; see `pandawn/broker/v1/task.proto` for each field."""

    user: str
    dataset: str
    command: tuple[str, ...]
    queue: str = ""
    site: str = ""
    inputs: tuple[File, ...] = ()
    files_per_job: int = 1
    job_count: int = 0
    outputs: tuple[str, ...] = ()
    build: bool = False
    build_command: tuple[str, ...] = ()
    sandbox_id: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    requirements: Requirements = field(default_factory=Requirements)
    priority: int = 0
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    test: bool = False


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be inserted, with its share of the input files."""

    index: int
    kind: JobKind
    state: JobState
    inputs: tuple[File, ...]

    @property
    def input_bytes(self) -> int:
        """Sum of the input sizes in bytes."""
        return sum(file.size_bytes for file in self.inputs)


class TaskState(Enum):
    """State of a task, derived from its jobs."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Task:
    """A task as stored: its spec without the inputs, and facts added since.

    `output_url` is the directory of its outputs; `library` is the output of its build job, None
    until that has finished. `passed_over` names the queues that brokerage skipped, and why.
    `named_by_task`: the names of its outputs contain its identifier; those of old tasks do not.
    """

    task_id: int
    spec: TaskSpec
    queue: str
    site: str
    output_url: str
    create_time: datetime
    library: File | None = None
    passed_over: str = ""
    named_by_task: bool = True


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """Progress of a task. `job_counts` does not count jobs that a retry replaced."""

    job_counts: Mapping[JobState, int]
    input_bytes: int
    bytes_from_cache: int
    last_state_time: datetime | None

    @property
    def state(self) -> TaskState:
        """State of the task."""
        return task_state(self.job_counts)


def task_state(job_counts: Mapping[JobState, int]) -> TaskState:
    """Returns the state of a task, given its number of jobs by state."""
    present = {state for state, count in job_counts.items() if count}
    if present - {JobState.FINISHED, JobState.FAILED, JobState.CANCELLED}:
        return TaskState.RUNNING
    if JobState.FAILED in present:
        return TaskState.FAILED
    if JobState.CANCELLED in present:
        return TaskState.CANCELLED
    return TaskState.FINISHED


INPUT_MARK = "%IN"
"""Placeholder in a command for the names of the job's input files."""

MAX_WORD_BYTES = 128 * 1024 - 1
"""Longest argument of a program on Linux with pages of 4 KiB (MAX_ARG_STRLEN)."""

MAX_COMMAND_BYTES = 6 * 1024 * 1024
"""Maximum size of arguments and environment together on Linux, with a stack of any size."""


def spec_violations(spec: TaskSpec) -> tuple[str, list[Violation]]:
    """Returns the violations of a task as a whole, and the reason code that fits them best.

    The wire checks single fields (lengths, characters); these are the rules between fields. An
    empty list means that the task is valid.
    """
    if not spec.inputs and spec.job_count < 1:
        return "EMPTY_FILE_LIST", [
            Violation(
                "task.inputs",
                "no input files, and no job_count for jobs without input; give one of them",
            )
        ]
    if spec.inputs and spec.job_count:
        return "INVALID_REQUEST", [
            Violation(
                "task.job_count", "is for tasks without input; with input, files_per_job decides"
            )
        ]
    duplicates = _duplicate_lfns(spec.inputs)
    if duplicates:
        return "DUPLICATE_LFN", duplicates
    found = []
    if spec.build and not spec.sandbox_id:
        found.append(
            Violation("task.sandbox_id", "a build job needs the user's code; upload a sandbox")
        )
    if spec.build_command and not spec.build:
        found.append(Violation("task.build_command", "is set, but build is not"))
    if len(set(spec.outputs)) != len(spec.outputs):
        found.append(Violation("task.outputs", "names an output twice"))
    count = run_job_count(spec) + (1 if spec.build else 0)
    if count > MAX_JOBS:
        return "TOO_MANY_JOBS", [
            Violation(
                "task.files_per_job" if spec.inputs else "task.job_count",
                f"the task would have {count:,} jobs, the limit is {MAX_JOBS:,}; "
                + (
                    "give each job more files, or split the task"
                    if spec.inputs
                    else "split the task"
                ),
            )
        ]
    found += _overlong_commands(spec)
    return "INVALID_REQUEST", found


def _overlong_commands(spec: TaskSpec) -> list[Violation]:
    """Returns a violation for the first run job whose `%IN` exceeds what Linux passes to a program on any node.

    A node with a small stack may allow less: then its pilot reports ARGUMENTS_TOO_LONG.
    """
    inside = sum(argument.count(INPUT_MARK) for argument in spec.command if argument != INPUT_MARK)
    own_words = spec.command.count(INPUT_MARK)
    if not inside and not own_words:
        return []
    for first in range(0, len(spec.inputs), spec.files_per_job):
        files = spec.inputs[first : first + spec.files_per_job]
        joined = sum(len(file.lfn.rpartition("/")[2].encode()) + 1 for file in files)
        if (inside and joined > MAX_WORD_BYTES) or (
            inside + own_words
        ) * joined > MAX_COMMAND_BYTES:
            return [
                Violation(
                    "task.command",
                    f"{INPUT_MARK} becomes {joined:,} bytes in run job {first // spec.files_per_job + 1} with "
                    f"{len(files):,} files, more than a program can take; give each job fewer files, or read "
                    "their names from the file whose path is in the environment variable PANDAWN_INPUTS_FILE",
                )
            ]
    return []


def _duplicate_lfns(inputs: Sequence[File]) -> list[Violation]:
    first: dict[tuple[str, str], int] = {}
    found = []
    for position, file in enumerate(inputs):
        before = first.setdefault((file.scope, file.lfn), position)
        if before != position:
            found.append(
                Violation(
                    f"task.inputs[{position}].file.lfn",
                    f"{file.lfn!r} is also the LFN of input {before}; LFNs of a task must differ",
                )
            )
    return found


def run_job_count(spec: TaskSpec) -> int:
    """Returns the number of run jobs of a task."""
    if not spec.inputs:
        return spec.job_count
    return -(-len(spec.inputs) // spec.files_per_job)


def split(spec: TaskSpec) -> list[NewJob]:
    """Returns the jobs of a task: the build job first, then run jobs over the inputs in the user's order."""
    jobs = []
    if spec.build:
        jobs.append(NewJob(1, JobKind.BUILD, JobState.ACTIVATED, ()))
    state = JobState.WAITING if spec.build else JobState.ACTIVATED
    for number in range(run_job_count(spec)):
        start = number * spec.files_per_job
        inputs = spec.inputs[start : start + spec.files_per_job]
        jobs.append(NewJob(number + 1, JobKind.RUN, state, tuple(inputs)))
    return jobs


def with_unique_names(jobs: Sequence[NewJob], immutable_scopes: Sequence[str]) -> Sequence[NewJob]:
    """Returns the jobs with inputs identified by their names where a queue's `immutable_scopes` allow it."""
    if not immutable_scopes and not any(
        file.version == UNIQUE for job in jobs for file in job.inputs
    ):
        return jobs
    return [
        replace(job, inputs=tuple(_known_by_name(file, immutable_scopes) for file in job.inputs))
        for job in jobs
    ]


def _known_by_name(file: File, immutable_scopes: Sequence[str]) -> File:
    if is_unique(file.scope, file.lfn, file.url, immutable_scopes):
        return file._replace(version=UNIQUE)
    if file.version == UNIQUE:
        # On a retry, after the site withdrew the scope: the other facts of the file give its version.
        return file._replace(version=file_version(file.url, checksum=file.checksum))
    return file


def oversized_jobs(jobs: Sequence[NewJob], max_input_bytes: int) -> list[Violation]:
    """Returns a violation for each job whose inputs together exceed a queue's limit; 0 means no limit."""
    if not max_input_bytes:
        return []
    return [
        Violation(
            "task.files_per_job",
            f"run job {job.index} has {len(job.inputs)} input files of {job.input_bytes:,} bytes together, "
            f"the queue's limit is {max_input_bytes:,} bytes per job; give each job fewer files",
        )
        for job in jobs
        if job.input_bytes > max_input_bytes
    ]


def output_directory(storage_root: str, user: str, dataset: str, now: datetime) -> str:
    """Returns the directory of a task's outputs as a URL: `<storage>/<year>/<user>/<dataset>`."""
    return f"{storage_root.rstrip('/')}/{now.year}/{user}/{dataset}"


class OutputPlan(NamedTuple):
    """A file that a job must store: its name in the work directory, its LFN and scope, and its destination."""

    name: str
    lfn: str
    scope: str
    url: str
    role: FileRole


def output_scope(user: str) -> str:
    """Returns the scope of a user's outputs: two users may give a dataset the same name."""
    return f"user.{user}"


LIBRARY_NAME = "library.tar.gz"
"""Name of the library tarball in the work directory of a build job."""


def planned_outputs(
    task: Task, kind: JobKind, index: int, job_id: int, attempt: int
) -> list[OutputPlan]:
    """Returns the files that an attempt at a job stores, its log last.

    The name of an output contains the task and the job's index: a retry writes the same name, and no
    other task can overwrite it. The name of a library contains the job, since a retry makes another
    library; the name of a log contains the attempt, since each attempt has its own log.
    """
    spec = task.spec

    def plan(name: str, lfn: str, role: FileRole = FileRole.OUTPUT) -> OutputPlan:
        return OutputPlan(name, lfn, output_scope(spec.user), f"{task.output_url}/{lfn}", role)

    if kind is JobKind.BUILD:
        plans = [plan(LIBRARY_NAME, f"{spec.dataset}.lib.{job_id}.tar.gz")]
    else:
        stem = f"{spec.dataset}.{task.task_id}" if task.named_by_task else spec.dataset
        plans = [plan(name, f"{stem}._{index:06d}.{name}") for name in spec.outputs]
    log = f"{spec.dataset}.job{job_id}.{attempt}.log.tar.gz"
    return [*plans, plan("log.tar.gz", log, FileRole.LOG)]


def task_not_found(task_id: int) -> NotFoundError:
    """Returns the error for a task that does not exist."""
    return NotFoundError(
        "TASK_NOT_FOUND",
        f"there is no task {task_id}; `pandawn tasks` lists them",
        metadata={"task_id": str(task_id)},
    )


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task and its progress."""

    task: Task
    progress: TaskProgress
