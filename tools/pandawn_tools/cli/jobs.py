"""`pandawn jobs`: lists jobs."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.broker.v1 import job_pb2
from pandawn_tools.cli import options, words
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.jsonout import print_messages
from pandawn_tools.cli.render import note, state_text
from pandawn_tools.cli.tables import Cell, Column, print_table
from pandawn_tools.cli.units import format_age, format_share, format_size

_COLUMNS = (
    Column("JOB", "right"),
    Column("TASK", "right"),
    Column("KIND"),
    Column("STATE"),
    Column("NODE", fold=True),
    Column("TRY", "right"),
    Column("INPUT", "right"),
    Column("CACHED", "right"),
    Column("AGE", "right"),
    Column("WHAT", fold=True, optional=True),
)

StateFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help="Only in this state, such as activated, running or failed. May be repeated.",
        autocompletion=words.job_state_words,
    ),
]


def jobs(
    ctx: typer.Context,
    task: options.TaskFilter = None,
    state: StateFilter = None,
    user: options.UserFilter = None,
    queue: options.QueueFilter = None,
    node: options.NodeFilter = None,
    label: options.LabelFilter = None,
    limit: options.LimitOption = None,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List jobs: the jobs of one task by number, all others newest first.

    TRY is the attempt. CACHED is the part of INPUT that was read from the node's cache. AGE is the time
    in this state. WHAT is the phase of a running job, or the error of a failed one.
    """
    states = [words.read_job_state(word) for word in state or ()]
    with options.connect(ctx, server) as client:
        template = broker.ListJobsRequest(
            task_id=task or 0,
            states=states,
            user=user or "",
            queue=queue or "",
            node=node or "",
            newest_first=task is None,
            labels=options.read_pairs("--label", label or ()),
        )
        rows, more = list_jobs(client, template, options.limit_or_none(limit, everything))
        if not rows:
            _check_filters(client, template)
    if json_output:
        print_messages(rows)
    else:
        now = datetime.now(UTC)
        print_table(_COLUMNS, (_row(job, now) for job in rows), empty="There are no such jobs.")
    if more:
        note(f"Only the first {len(rows)} are shown. --limit N or --all shows more.")


def _check_filters(client: Client, template: broker.ListJobsRequest) -> None:
    """Checks whether what the filters name exists, when no job was found.

    Raises:
        CliError: There is no such task, queue or node.
    """
    if template.task_id:
        client.call(client.broker.GetTask, broker.GetTaskRequest(task_id=template.task_id))
    if template.queue:
        from pandawn.queueconfig.v1 import queue_pb2

        client.call(client.queues.GetQueue, queue_pb2.GetQueueRequest(name=template.queue))
    if template.node:
        from pandawn_tools.cli.nodes import find_node

        name = find_node(client, template.node, "").name
        if name != template.node:
            note(f"The full name of this node is {name}: --node {name}")
    if template.user:
        # No error: the server knows a user by their tasks only.
        tasks = broker.ListTasksRequest(user=template.user, page_size=1)
        if not client.call(client.broker.ListTasks, tasks).tasks:
            note(f"There are no tasks of a user {template.user}.")


def list_jobs(
    client: Client, template: broker.ListJobsRequest, limit: int | None
) -> tuple[list[job_pb2.Job], bool]:
    """Returns the jobs that the request asks for, at most `limit`, and whether there are more.

    Raises:
        CliError: The server refused or cannot be reached.
    """

    def fetch(token: str, size: int) -> broker.ListJobsResponse:
        request = broker.ListJobsRequest()
        request.CopyFrom(template)
        request.page_token = token
        request.page_size = size
        return client.call(client.broker.ListJobs, request)

    return client.pages(fetch, lambda page: page.jobs, limit=limit)


def _row(job: job_pb2.Job, now: datetime) -> list[Cell]:
    return [
        job.job_id,
        job.task_id,
        words.job_kind(job.kind),
        state_text(words.job_state(job.state)),
        job.node,
        f"{job.attempt}/{job.max_attempts}" if job.attempt else "-",
        format_size(job.input_bytes),
        format_share(job.bytes_from_cache, job.input_bytes) if job.attempt else "-",
        format_age(job.state_time, now),
        remark(job),
    ]


def remark(job: job_pb2.Job) -> str:
    """Returns a remark on a job beside its state: its retry, its error, its phase; may be empty."""
    remarks = []
    if job.retry_job_id:
        remarks.append(f"retried as {job.retry_job_id}")
    if job.state in words.FINAL_JOB_STATES:
        remarks.append(job.error.reason)
    else:
        if job.cancel_requested:
            remarks.append("being cancelled")
        remarks.append(words.phase(job.phase))
    return ", ".join(filter(None, remarks))
