"""The result of a demo, for JSON output and for all reports."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.broker.v1 import job_pb2, task_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli import words
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.jsonout import Json
from pandawn_tools.cli.progress import count
from pandawn_tools.cli.render import location
from pandawn_tools.demo.board import Standing


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job: where it ran, and where its bytes came from."""

    job_id: int
    kind: str
    node: str
    attempt: int
    input_bytes: int
    bytes_from_cache: int


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A task with its jobs and sums."""

    task_id: int
    user: str
    jobs_finished: int
    jobs_failed: int
    jobs: Sequence[JobResult]
    input_bytes: int
    bytes_from_cache: int
    output_dir: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The whole result; the fields are the keys of the JSON object."""

    tasks: Sequence[TaskResult]
    plot: str
    wall_s: float

    def json(self) -> Json:
        """Returns it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class JobDetail:
    """More about a job: its input file, and how often it finished."""

    job: job_pb2.Job
    input_lfn: str
    completions: int
    role: Literal["build", "run"]


def task_result(standing: Standing) -> TaskResult:
    """Returns the result of a task that has ended."""
    task = standing.task
    return TaskResult(
        task_id=task.task_id,
        user=task.user,
        jobs_finished=count(task, types.JOB_STATE_FINISHED),
        jobs_failed=count(task, types.JOB_STATE_FAILED),
        jobs=[
            JobResult(
                job_id=job.job_id,
                kind=words.job_kind(job.kind),
                node=job.node,
                attempt=job.attempt,
                input_bytes=job.input_bytes,
                bytes_from_cache=job.bytes_from_cache,
            )
            for job in standing.jobs
        ],
        input_bytes=task.input_bytes,
        bytes_from_cache=task.bytes_from_cache,
        output_dir=str(output_dir(task)),
    )


def output_dir(task: task_pb2.Task) -> Path:
    """Returns the directory of a task's outputs."""
    return Path(location(task.output_url))


def job_details(client: Client, standing: Standing) -> list[JobDetail]:
    """Fetches the input file and the attempts of each job.

    Raises:
        CliError: The server refused or cannot be reached.
    """
    details = []
    for job in standing.jobs:
        request = broker.GetJobRequest(job_id=job.job_id)
        found = client.call(client.broker.GetJob, request)
        inputs = [f.file.lfn for f in found.files if f.role == job_pb2.FILE_ROLE_INPUT]
        finished = [a for a in found.attempts if a.outcome == types.JOB_STATE_FINISHED]
        details.append(
            JobDetail(
                job=job,
                input_lfn=", ".join(inputs),
                completions=len(finished),
                role="build" if job.kind == types.JOB_KIND_BUILD else "run",
            )
        )
    return details
