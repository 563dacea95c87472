"""The progress display of the demo: a live table on a terminal, otherwise one line per job."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pandawn.broker.v1 import job_pb2, task_pb2
from pandawn_tools.cli import words
from pandawn_tools.cli.progress import bar
from pandawn_tools.cli.render import clean, stderr_console
from pandawn_tools.cli.units import format_size
from pandawn_tools.demo.users import NODES


@dataclass(frozen=True, slots=True)
class Standing:
    """A task and its jobs at one time."""

    task: task_pb2.Task
    jobs: Sequence[job_pb2.Job]


class Board:
    """Shows the progress of the demo on standard error."""

    def __init__(self) -> None:
        """Draws nothing before `live` is entered."""
        self._console: Console = stderr_console()
        self._begin = time.monotonic()
        self._live: Live | None = None
        self._reported: set[int] = set()

    @property
    def seconds(self) -> float:
        """Time since the start of the demo."""
        return time.monotonic() - self._begin

    def live(self) -> AbstractContextManager[object]:
        """A context in which `show` draws on a terminal; the drawing is removed at the end."""
        if not self._console.is_terminal:
            return nullcontext()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        return self._live

    def step(self, text: str) -> None:
        """Prints a step of the demo, which stays on the screen."""
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(no_wrap=True, style="dim")
        line.add_column(overflow="fold")
        line.add_row(f"{self.seconds:5.1f} s", Text(clean(text)))
        self._console.print(line)

    def show(self, standings: Sequence[Standing]) -> None:
        """Shows the state of the tasks."""
        if self._live is not None:
            bars = [bar(standing.task) for standing in standings]
            self._live.update(Group("", _nodes(standings), "", *bars), refresh=True)
            return
        for standing in standings:
            for job in standing.jobs:
                if job.state in words.FINAL_JOB_STATES and job.job_id not in self._reported:
                    self._reported.add(job.job_id)
                    self.step(_ended(job))


def _nodes(standings: Sequence[Standing]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("node", "now"):
        table.add_column(title, no_wrap=True, min_width=29 if title == "now" else 0)
    for title in ("jobs done", "bytes moved", "from its cache"):
        table.add_column(title, justify="right", no_wrap=True)
    jobs = [job for standing in standings for job in standing.jobs]
    for node in NODES:
        here = [job for job in jobs if job.node == node]
        done = [job for job in here if job.state in words.FINAL_JOB_STATES]
        moved = sum(job.input_bytes - job.bytes_from_cache for job in done)
        cached = sum(job.bytes_from_cache for job in done)
        table.add_row(
            Text(node, style="bold"),
            _now([job for job in here if job.state not in words.FINAL_JOB_STATES]),
            str(len(done)),
            format_size(moved),
            format_size(cached),
        )
    return table


def _now(jobs: Sequence[job_pb2.Job]) -> Text:
    if not jobs:
        return Text("-", style="dim")
    job = jobs[-1]
    kind = words.job_kind(job.kind)
    what = words.phase(job.phase) or words.job_state(job.state)
    return Text(f"{kind} job {job.job_id} of {job.user}: {what}", style="cyan")


def _ended(job: job_pb2.Job) -> str:
    head = f"{job.user}: {words.job_kind(job.kind)} job {job.job_id} {words.job_state(job.state)}"
    if job.HasField("error"):
        return f"{head} on {job.node}: {job.error.reason}: {job.error.text}"
    moved = format_size(job.input_bytes - job.bytes_from_cache)
    return f"{head} on {job.node}: {moved} moved, {format_size(job.bytes_from_cache)} from cache"
