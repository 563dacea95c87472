"""Decides about jobs whose attempts failed, from their earlier attempts, their tasks, and the state of the nodes.

Runs inside the transaction of its caller, before the ends are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.attempts import AttemptEnd
from pandawn_server.domain.leases.faults import Step
from pandawn_server.domain.leases.leases import Lease
from pandawn_server.domain.leases.nodes import Node
from pandawn_server.domain.leases.retries import Tried, Verdict, judge
from pandawn_server.domain.tasks.jobs import Job
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import attempts

OUT_OF_TIME = "PILOT_OUT_OF_TIME"
"""The reason given by a pilot whose time ended before the job did."""

MORE_TIME = 1.5
"""If a pilot's time was too short for a job, the next pilot needs at least this many times as much left."""


def verdicts(
    tx: Transaction,
    of: Mapping[int, Job],
    ends: Sequence[tuple[AttemptEnd, Lease, bool]],
    restricted: Mapping[NodeKey, Node],
    now: datetime,
) -> dict[int, Verdict]:
    """The verdict on each job whose attempt ended with an error; `ends` hold (end, lease, reported by the pilot)."""
    tried = {
        end.job_id: Tried(lease.key.node, end.error, reported)
        for end, lease, reported in ends
        if end.error is not None
    }
    if not tried:
        return {}
    before = attempts.failed_before(tx, tried)
    # A drained node is not suspect.
    suspects = {key.node for key, node in restricted.items() if node.is_suspended}
    unstarted = {of[i].task_id for i, last in tried.items() if last.fault.step is Step.START}
    running = attempts.started_tasks(tx, unstarted, tried) if unstarted else frozenset()
    return {
        job_id: judge(
            of[job_id],
            [*before.get(job_id, ()), last],
            suspects,
            now,
            started_elsewhere=of[job_id].task_id in running,
        )
        for job_id, last in tried.items()
    }


def time_needed(job: Job, end: AttemptEnd) -> timedelta | None:
    """The time that a pilot needs for a job that just ran out of time; None if the attempt does not change it."""
    if end.error is None or end.error.reason != OUT_OF_TIME:
        return None
    needed = sum(end.phase_times.values(), timedelta(0)) * MORE_TIME
    known = job.requirements.wall_time
    return needed if needed and (known is None or known < needed) else None
