"""The end of a wait for a task: what is printed, and the exit status."""

import typer

from pandawn.broker.v1 import task_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli import words
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import ExitStatus
from pandawn_tools.cli.jsonout import message_json, print_json
from pandawn_tools.cli.progress import (
    count,
    describe_bytes,
    describe_counts,
    failed_jobs,
    wait_for_task,
)
from pandawn_tools.cli.render import location, note, print_lines, stderr_console

# Failed jobs that are printed; `pandawn jobs` lists all.
_MOST_FAILED = 10


def finish(client: Client, task_id: int, *, json_output: bool) -> None:
    """Waits for a task, prints how it ended, and exits with 1 if it did not finish.

    Raises:
        typer.Exit: A job failed or was cancelled.
        CliError: There is no such task, or the server does not answer for too long.
    """
    try:
        task = wait_for_task(client, task_id)
    except KeyboardInterrupt:
        # A new line after the ^C that the terminal shows.
        stderr_console().print()
        note(
            f"Task {task_id} continues. To wait again: pandawn wait {task_id}; "
            f"to cancel it: pandawn kill --task {task_id}"
        )
        raise
    if json_output:
        print_json(message_json(task))
    else:
        print_lines(_summary(task))
    if task.state != task_pb2.TASK_STATE_FINISHED:
        _tell_failures(client, task)
        raise typer.Exit(ExitStatus.WORK_FAILED)


def _summary(task: task_pb2.Task) -> list[str]:
    lines = [f"task {task.task_id} has {words.task_state(task.state)}: {describe_counts(task)}"]
    if task.state == task_pb2.TASK_STATE_CANCELLED:
        lines = [f"task {task.task_id} was cancelled: {describe_counts(task)}"]
    if task.input_bytes:
        lines.append(describe_bytes(task))
    if task.output_url:
        lines.append(f"outputs in {location(task.output_url)}")
    return lines


def _tell_failures(client: Client, task: task_pb2.Task) -> None:
    has_failed = count(task, types.JOB_STATE_FAILED) > 0
    jobs = failed_jobs(client, task.task_id, _MOST_FAILED) if has_failed else []
    for job in jobs:
        error = job.error
        note(f"job {job.job_id} on {job.node or 'no node'}: {error.reason}: {error.text}")
    if jobs:
        note(f"Details: pandawn job {jobs[0].job_id}; all jobs: pandawn jobs --task {task.task_id}")
    note(f"To retry them: pandawn retry --task {task.task_id}")
