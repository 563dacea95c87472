"""Kills the server in the middle of the demo, and then checks that no job was lost."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error
from pandawn_tools.demo.board import Standing
from pandawn_tools.demo.cluster import Cluster
from pandawn_tools.demo.place import FILE_NAMES, Place
from pandawn_tools.demo.result import JobDetail
from pandawn_tools.demo.users import ANALYSES

KILL_SERVER = "kill-server"
# The number of finished jobs before the kill, so that it happens in the middle.
_FINISHED_BEFORE = 3


def check_name(chaos: str | None) -> None:
    """Raises `CliError` if there is no chaos of that name."""
    if chaos not in {None, KILL_SERVER}:
        raise usage_error(
            "INVALID_OPTION",
            f"--chaos {chaos}: unknown value",
            remedies=[f"the only value is: --chaos {KILL_SERVER}"],
        )


class ServerKiller:
    """Kills the server once in each task, when some jobs are done and others run."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        """`say` is called for each kill."""
        self._cluster = cluster
        self._say = say
        self._killed: set[int] = set()

    def look(self, standing: Standing) -> None:
        """Kills the server if the task is in the middle. The supervisor restarts it."""
        task_id = standing.task.task_id
        states = Counter(job.state for job in standing.jobs)
        is_middle = (
            states[types.JOB_STATE_FINISHED] >= _FINISHED_BEFORE
            and states[types.JOB_STATE_RUNNING] + states[types.JOB_STATE_HOLDING] > 0
        )
        if is_middle and task_id not in self._killed:
            self._killed.add(task_id)
            pid = self._cluster.server_pid
            os.kill(pid, signal.SIGKILL)
            self._say(f"chaos: kill -9 of the server (pid {pid}) in the middle of task {task_id}")

    @property
    def kills(self) -> int:
        """The number of kills so far."""
        return len(self._killed)


def verify(place: Place, details: Mapping[str, Sequence[JobDetail]], kills: int) -> str:
    """Checks that each job finished exactly once, with its attempts and the lines that payloads wrote.

    `details` are the jobs by user. Returns a sentence about the checks.

    Raises:
        CliError: A job did not finish, or finished twice; or the server was not killed.
    """
    problems = [] if kills else ["the tasks ended before the server could be killed"]
    for jobs in details.values():
        problems += (
            f"job {detail.job.job_id} has {detail.completions} finished attempts"
            for detail in jobs
            if detail.completions != 1
        )
    for analysis in ANALYSES:
        witnesses = Counter(_witnesses(place, analysis.user))
        problems += (
            f"the payload of {analysis.user} over {name} succeeded {witnesses[name]} times"
            for name in FILE_NAMES
            if witnesses[name] != 1
        )
    if problems:
        raise CliError(
            ExitStatus.WORK_FAILED,
            "CHAOS_WON",
            "jobs were lost or ran twice after the server was killed",
            details=problems,
            remedies=[f"see the logs in {place.logs}"],
        )
    count = sum(len(jobs) for jobs in details.values())
    return f"chaos: {kills} kills of the server; all {count} jobs finished, none ran twice"


def _witnesses(place: Place, user: str) -> list[str]:
    path = place.completions.with_name(f"{place.completions.name}.{user}")
    return path.read_text(encoding="utf-8").split() if path.exists() else []
