"""`pandawn tasks` and `pandawn wait`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.broker.v1 import task_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli import options, words
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, replace_remedies
from pandawn_tools.cli.jsonout import print_messages
from pandawn_tools.cli.outcome import finish
from pandawn_tools.cli.progress import count
from pandawn_tools.cli.render import note, state_text
from pandawn_tools.cli.tables import Cell, Column, print_table
from pandawn_tools.cli.units import format_age, format_share, format_size

_COLUMNS = (
    Column("TASK", "right"),
    Column("USER", fold=True),
    Column("DATASET", fold=True),
    Column("QUEUE", fold=True),
    Column("STATE"),
    Column("DONE", "right"),
    Column("FAILED", "right", optional=True),
    Column("INPUT", "right"),
    Column("CACHED", "right"),
    Column("AGE", "right"),
)

TaskIds = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="TASK", callback=options.positive_int64, help="Only these tasks, by number."
    ),
]
TaskId = Annotated[
    int, typer.Argument(metavar="TASK", callback=options.positive_int64, help="Number of a task.")
]


def tasks(
    ctx: typer.Context,
    task_ids: TaskIds = None,
    user: options.UserFilter = None,
    label: options.LabelFilter = None,
    limit: options.LimitOption = None,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List tasks, newest first.

    DONE is finished jobs of all jobs. CACHED is the part of INPUT that was read from the caches of nodes.
    """
    labels = options.read_pairs("--label", label or ())
    with options.connect(ctx, server) as client:
        if task_ids:
            rows = [_get(client, task_id) for task_id in task_ids]
            more = False
        else:
            rows, more = client.pages(
                lambda token, size: client.call(
                    client.broker.ListTasks,
                    broker.ListTasksRequest(
                        page_token=token, page_size=size, user=user or "", labels=labels
                    ),
                ),
                lambda page: page.tasks,
                limit=options.limit_or_none(limit, everything),
            )
    if json_output:
        print_messages(rows)
    else:
        now = datetime.now(UTC)
        empty = "There are no such tasks." if labels else "There are no tasks yet."
        if user and not labels:
            empty = f"There are no tasks of a user {user}."
        print_table(_COLUMNS, (_row(task, now) for task in rows), empty=empty)
    if more:
        note(f"Only the newest {len(rows)} are shown. --limit N or --all shows more.")


def wait(
    ctx: typer.Context,
    task_id: TaskId,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Wait until a task has ended, and show its progress."""
    with options.connect(ctx, server, patient=True) as client:
        try:
            finish(client, task_id, json_output=json_output)
        except CliError as error:
            raise _with_job_hint(client, error, task_id) from error


def _with_job_hint(client: Client, error: CliError, number: int) -> CliError:
    """Returns the error; if there is no such task but a job of that number, it names the job's task."""
    if error.reason != "TASK_NOT_FOUND":
        return error
    try:
        found = client.call(client.broker.GetJob, broker.GetJobRequest(job_id=number))
    except CliError:
        return error
    task_id = found.job.task_id
    hint = f"{number} is a job of task {task_id}. Wait for the task: pandawn wait {task_id}"
    return replace_remedies(error, [hint])


def _get(client: Client, task_id: int) -> task_pb2.Task:
    request = broker.GetTaskRequest(task_id=task_id)
    return client.call(client.broker.GetTask, request).task


def _row(task: task_pb2.Task, now: datetime) -> list[Cell]:
    return [
        task.task_id,
        task.user,
        task.dataset,
        task.queue,
        state_text(words.task_state(task.state)),
        f"{count(task, types.JOB_STATE_FINISHED)}/{count(task)}",
        count(task, types.JOB_STATE_FAILED) or "",
        format_size(task.input_bytes),
        format_share(task.bytes_from_cache, task.input_bytes),
        format_age(task.create_time, now),
    ]
