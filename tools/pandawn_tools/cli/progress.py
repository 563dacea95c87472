"""Waits for tasks and shows how far they are: live on a terminal, line by line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rich.text import Text

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.broker.v1 import job_pb2, task_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli import words
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.render import state_text, stderr_console
from pandawn_tools.cli.units import format_share, format_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Pause between two polls of the task. It grows: short tasks end without delay, long ones cost few calls.
_FIRST_POLL_S = 0.3
_LONGEST_POLL_S = 3.0
_BAR_WIDTH = 20


def is_over(task: task_pb2.Task) -> bool:
    """Whether all jobs of the task have ended."""
    return task.state not in {task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_UNSPECIFIED}


def count(task: task_pb2.Task, *states: int) -> int:
    """Returns how many jobs of the task are in one of `states`; without states, all its jobs."""
    return sum(row.count for row in task.job_counts if not states or row.state in states)


def describe_counts(task: task_pb2.Task) -> str:
    """Returns the job counts on a line: `7 finished, 2 running`."""
    rows = sorted(task.job_counts, key=lambda row: row.state, reverse=True)
    return ", ".join(f"{row.count} {words.job_state(row.state)}" for row in rows if row.count)


def describe_bytes(task: task_pb2.Task) -> str:
    """Returns on a line how much was read, and how much of it from caches."""
    if not task.input_bytes:
        return "no input was read"
    return (
        f"{format_size(task.input_bytes)} read, {format_size(task.bytes_from_cache)} "
        f"({format_share(task.bytes_from_cache, task.input_bytes)}) of it from the caches of nodes"
    )


def bar(task: task_pb2.Task) -> Table:
    """Returns a progress bar of the task, with its counts."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    done = count(task, *words.FINAL_JOB_STATES)
    total = count(task)
    grid = Table.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(no_wrap=True)
    grid.add_row(
        Text(f"task {task.task_id}", style="bold"),
        ProgressBar(total=max(total, 1), completed=done, width=_BAR_WIDTH),
        Text(f"{done}/{total}"),
        Text(", ").join(_count_texts(task)),
    )
    return grid


def _count_texts(task: task_pb2.Task) -> list[Text]:
    rows = sorted(task.job_counts, key=lambda row: row.state)
    return [
        Text(f"{row.count} ").append_text(state_text(words.job_state(row.state)))
        for row in rows
        if row.count
    ]


class _Lines:
    """Prints the counts of a task whenever they have changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def show(self, task: task_pb2.Task) -> None:
        line = f"task {task.task_id}: {describe_counts(task)}"
        if line != self._last:
            self._console.print(Text(line), soft_wrap=True)
            self._last = line


def wait_for_task(client: Client, task_id: int) -> task_pb2.Task:
    """Waits until all jobs of the task have ended, and returns it; shows its progress on standard error.

    Raises:
        CliError: There is no such task, or the server does not answer for too long.
    """
    console = stderr_console()
    show: Callable[[task_pb2.Task], None]
    screen: AbstractContextManager[object]
    if console.is_terminal:
        from rich.live import Live

        live = Live(console=console, auto_refresh=False, transient=True)
        screen = live
        # Above the bar, not into it.
        client.say = lambda text: console.print(Text(text), soft_wrap=True)

        def show(task: task_pb2.Task) -> None:
            live.update(bar(task), refresh=True)
    else:
        screen = nullcontext()
        show = _Lines(console).show

    pause_s = _FIRST_POLL_S
    with screen:
        while True:
            request = broker.GetTaskRequest(task_id=task_id)
            task = client.call(client.broker.GetTask, request).task
            show(task)
            if is_over(task):
                return task
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.2, _LONGEST_POLL_S)


def failed_jobs(client: Client, task_id: int, limit: int) -> list[job_pb2.Job]:
    """Returns the failed jobs of a task that were not retried, at most `limit`."""

    def fetch(token: str, size: int) -> broker.ListJobsResponse:
        request = broker.ListJobsRequest(
            task_id=task_id,
            states=[types.JOB_STATE_FAILED],
            page_token=token,
            page_size=size,
        )
        return client.call(client.broker.ListJobs, request)

    jobs, _ = client.pages(fetch, lambda page: page.jobs, limit=limit)
    return [job for job in jobs if not job.retry_job_id]
