"""When a node is a black hole: it eats jobs, and should get no more until somebody or some time mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pandawn_server.domain.jobs import ErrorComponent, JobState

STREAK = 5
"""Failures in a row, of as many jobs, that make a node suspect."""

SUSPENSION = timedelta(minutes=10)
"""How long a black hole gets no jobs; after it one more failure suspends it again."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """How an attempt on a node ended, newest first in the lists below."""

    job_id: int
    task_id: int
    outcome: JobState
    component: ErrorComponent | None
    reason: str


def black_hole_reason(recent: Sequence[EndedAttempt]) -> str | None:
    """Why a node should get no more jobs, or None; `recent` are its last attempts, newest first.

    A node is suspect after `STREAK` failures in a row of different jobs. The payload's own failures
    count only when at least two tasks are hit: one broken task fails everywhere, and must not
    close a site to everybody else.
    """
    streak: dict[int, EndedAttempt] = {}
    for attempt in recent:
        if attempt.outcome is JobState.FINISHED:
            break
        if attempt.outcome is JobState.FAILED:
            streak.setdefault(attempt.job_id, attempt)
    if len(streak) < STREAK:
        return None
    failures = list(streak.values())[:STREAK]
    by_node = [a for a in failures if a.component is not ErrorComponent.PAYLOAD]
    tasks = {a.task_id for a in failures}
    if len(by_node) < STREAK and len(tasks) < 2:
        return None
    reasons = ", ".join(sorted({a.reason for a in failures}))
    return (
        f"the last {len(failures)} jobs on this node failed ({reasons}), of {len(tasks)} "
        f"task{'s' if len(tasks) > 1 else ''}; look at their logs and at the node's disks and network"
    )
