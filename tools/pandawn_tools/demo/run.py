"""Runs the demo, from an empty directory to the picture."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.broker.v1 import task_pb2
from pandawn_tools.cli.client import FOLLOWER, Client
from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.cli.jobs import list_jobs
from pandawn_tools.cli.jsonout import print_json
from pandawn_tools.cli.progress import describe_bytes, describe_counts, is_over
from pandawn_tools.cli.settings import Address
from pandawn_tools.cli.units import format_size
from pandawn_tools.demo import chaos, report, users
from pandawn_tools.demo import place as places
from pandawn_tools.demo.board import Board, Standing
from pandawn_tools.demo.cluster import Cluster, Engines
from pandawn_tools.demo.result import DemoResult, job_details, task_result
from pandawn_tools.demo.supervisor import Supervisor

_POLL_S = 0.4
# The tasks take half a minute; after this time the demo must be hanging.
_TASK_TIMEOUT_S = 300.0
_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `pandawn demo`."""

    directory: Path | None
    database: str | None
    catalog: str
    keep: bool
    chaos: str | None
    json_output: bool


def run(settings: Settings) -> bool:
    """Runs the demo; returns True if all jobs of both tasks finished.

    Raises:
        CliError: The set-up or the demo failed; all its processes have been ended.
    """
    chaos.check_name(settings.chaos)
    places.check_packages()
    board = Board()
    place = places.prepare(settings.directory)
    files = places.input_paths(place)
    size = format_size(sum(path.stat().st_size for path in files))
    board.step(f"everything goes to {place.root}")
    board.step(f"its storage holds {len(files)} ROOT files, {size}")
    engines = Engines(
        settings.database or f"sqlite:///{place.root / 'pandawn.db'}", settings.catalog
    )
    cluster = Cluster(engines, place.logs)
    try:
        with _terminable():
            result = _play(settings, board, place, cluster)
    except BaseException:
        cluster.stop()
        raise
    if settings.keep:
        if not settings.json_output:
            report.print_kept(cluster.address, [process.child.pid for process in cluster.running])
        else:
            pids = " ".join(str(process.child.pid) for process in cluster.running)
            board.step(f"server at {cluster.address} is left running; end all: kill {pids}")
    else:
        cluster.stop()
    return result


def _play(settings: Settings, board: Board, place: places.Place, cluster: Cluster) -> bool:
    cluster.migrate()
    cluster.start_server()
    board.step(f"the server listens on {cluster.address} (pid {cluster.server_pid})")
    address = Address(cluster.address, "the demo")
    with (
        Supervisor(cluster, board.step) as supervisor,
        Client(address, patience=FOLLOWER, say=lambda _: None) as client,
    ):
        users.apply_queue(client, place)
        for node in users.NODES:
            cluster.start_pilot(node, users.queue_name(place), place.node(node))
        board.step(f"pilots run on {', '.join(users.NODES)}, whose caches are empty")
        killer = chaos.ServerKiller(cluster, board.step) if settings.chaos else None
        standings: list[Standing] = []
        for analysis in users.ANALYSES:
            task = users.submit_analysis(client, place, analysis, witness=killer is not None)
            board.step(
                f"{analysis.user} submits task {task.task_id} ({analysis.title}): "
                f"a build job, then {len(places.FILE_NAMES)} run jobs"
            )
            watch = _Watch(client, supervisor.check, board, standings, killer)
            standings.append(watch.until_over(task))
            _report_end(board, standings[-1].task)
        return _conclude(settings, board, place, client, standings, killer)


@dataclass
class _Watch:
    """Polls a task until it is over."""

    client: Client
    check: Callable[[], None]
    board: Board
    before: list[Standing]
    killer: chaos.ServerKiller | None

    def until_over(self, task: task_pb2.Task) -> Standing:
        """Returns the task and its jobs when all jobs have ended."""
        deadline = time.monotonic() + _TASK_TIMEOUT_S
        with self.board.live():
            while True:
                self.check()
                standing = _look(self.client, task.task_id)
                self.board.show([*self.before, standing])
                if is_over(standing.task):
                    return standing
                if self.killer is not None:
                    self.killer.look(standing)
                if time.monotonic() > deadline:
                    raise CliError(
                        ExitStatus.WORK_FAILED,
                        "DEMO_FAILED",
                        f"task {task.task_id} did not end in {_TASK_TIMEOUT_S:.0f} s",
                        details=[describe_counts(standing.task)],
                    )
                time.sleep(_POLL_S)


def _look(client: Client, task_id: int) -> Standing:
    # The task first: if it is over, the list shows the final state of all its jobs.
    request = broker.GetTaskRequest(task_id=task_id)
    task = client.call(client.broker.GetTask, request).task
    jobs, _ = list_jobs(client, broker.ListJobsRequest(task_id=task_id), limit=None)
    return Standing(task, [job for job in jobs if not job.retry_job_id])


def _report_end(board: Board, task: task_pb2.Task) -> None:
    board.step(f"task {task.task_id} has ended ({describe_counts(task)}): {describe_bytes(task)}")


def _conclude(
    settings: Settings,
    board: Board,
    place: places.Place,
    client: Client,
    standings: list[Standing],
    killer: chaos.ServerKiller | None,
) -> bool:
    details = {standing.task.user: job_details(client, standing) for standing in standings}
    tasks = [task_result(standing) for standing in standings]
    finished = all(s.task.state == task_pb2.TASK_STATE_FINISHED for s in standings)
    plot = ""
    if finished:
        # Imported here, because it takes a second.
        from pandawn_tools.demo.picture import draw

        draw(tasks, place.picture)
        plot = str(place.picture)
    result = DemoResult(tasks=tasks, plot=plot, wall_s=round(board.seconds, 2))
    if settings.json_output:
        print_json(result.json())
    else:
        report.print_report(client, place, result, details)
    if killer is not None:
        board.step(chaos.verify(place, details, killer.kills))
    return finished


@contextmanager
def _terminable() -> Iterator[None]:
    """Turns SIGTERM into an exception, so that the children are ended before the exit."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
