"""Kills the server in the middle of the demo, and checks afterwards that nothing was lost."""

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
# Jobs that have finished before the kill: the middle, not the beginning.
_FINISHED_BEFORE = 3


def check_name(chaos: str | None) -> None:
    """Raises `CliError` if there is no chaos of that name."""
    if chaos not in {None, KILL_SERVER}:
        raise usage_error(
            "INVALID_OPTION",
            f"--chaos {chaos}: there is no such thing",
            remedies=[f"there is one: --chaos {KILL_SERVER}"],
        )


class ServerKiller:
    """Kills the server once in each task, when some jobs are done and others run."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        """`say` is told of each kill."""
        self._cluster = cluster
        self._say = say
        self._killed: set[int] = set()

    def look(self, standing: Standing) -> None:
        """Kills if it is time to. The supervisor starts the server again."""
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
        """How often it killed."""
        return len(self._killed)


def verify(place: Place, details: Mapping[str, Sequence[JobDetail]], kills: int) -> str:
    """Checks that each job ran to its end once, by the attempts and by what payloads left behind.

    `details` are the jobs by user. Returns what was checked, in a sentence.

    Raises:
        CliError: A job did not finish, or ran twice to its end; or the server was not killed.
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
            f"the payload of {analysis.user} over {name} ran {witnesses[name]} times to its end"
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
