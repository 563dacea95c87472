"""What becomes of jobs whose attempts ended badly, by their earlier attempts, their tasks, and the state of the nodes.

Works inside the transaction of its caller, before anything is written of the ends.
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
"""The reason of a pilot whose time was over before the job's."""

MORE_TIME = 1.5
"""A job for which a pilot's time did not suffice goes to pilots with this many times as much left, at least."""


def verdicts(
    tx: Transaction,
    of: Mapping[int, Job],
    ends: Sequence[tuple[AttemptEnd, Lease, bool]],
    restricted: Mapping[NodeKey, Node],
    now: datetime,
) -> dict[int, Verdict]:
    """By job, what becomes of those whose attempt ended with an error; `ends` say whether a pilot reported it."""
    tried = {
        end.job_id: Tried(lease.key.node, end.error, reported)
        for end, lease, reported in ends
        if end.error is not None
    }
    if not tried:
        return {}
    before = attempts.failed_before(tx, tried)
    # A node that an operator drains is as good as any.
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


def time_wanted(job: Job, end: AttemptEnd) -> timedelta | None:
    """How much time a pilot must have left for a job that just had too little; None where nothing was learned."""
    if end.error is None or end.error.reason != OUT_OF_TIME:
        return None
    wanted = sum(end.phase_times.values(), timedelta(0)) * MORE_TIME
    known = job.requirements.wall_time
    return wanted if wanted and (known is None or known < wanted) else None
