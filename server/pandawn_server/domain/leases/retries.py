"""Decides whether, when and where a job is retried after a failed attempt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.leases.faults import MAX_LOST, Count, Fault, Final, Step, fault_of
from pandawn_server.domain.tasks.jobs import Job, JobError, JobState

MAX_AVOIDED = 8
"""The largest number of nodes that a job avoids: the last ones on which it failed."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that ended with an error; `reported` if its pilot reported it."""

    node: str
    error: JobError
    reported: bool = True

    @property
    def fault(self) -> Fault:
        """Its entry in the table of faults."""
        return fault_of(self.error, reported=self.reported)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The new state of a job; it avoids the nodes `avoided` while there are other nodes.

    `why` is text for people: why there is no retry, or when it will be.
    """

    state: JobState
    count: Count
    not_before: datetime | None = None
    avoided: tuple[str, ...] = ()
    why: str = ""


def judge(
    job: Job,
    tried: Sequence[Tried],
    suspects: Collection[str],
    now: datetime,
    *,
    started_elsewhere: bool = False,
) -> Verdict:
    """Decides about a job after its last attempt, `tried[-1]`; earlier attempts come before it, oldest first.

    `suspects` are nodes that get no jobs, or only probes: failures there do not count against the job.
    `started_elsewhere`: payloads of other jobs of its task have started.
    """
    if job.cancel_requested:
        # However the attempt ended, the job is cancelled, and no counter changes.
        return Verdict(JobState.CANCELLED, Count.NOTHING)
    last = tried[-1]
    fault = last.fault
    count = _count(last, suspects, started_elsewhere=started_elsewhere)
    if count is Count.NOTHING:
        avoided = job.avoided
        if fault.kind.elsewhere:
            avoided = _with(avoided, last.node)
        return Verdict(JobState.ACTIVATED, count, avoided=avoided, why="it was given back")
    failures = job.failures + (count is Count.FAILED)
    losses = job.losses + (count is Count.LOST)
    end = _end(job, tried, suspects, failures, losses, started_elsewhere=started_elsewhere)
    if end:
        return Verdict(JobState.FAILED, count, why=end)
    avoided = _with(job.avoided, last.node) if fault.kind.elsewhere else job.avoided
    pause = fault.kind.pause(failures if count is Count.FAILED else losses)
    if not pause:
        return Verdict(JobState.ACTIVATED, count, avoided=avoided, why="it will be retried")
    until = now + pause
    return Verdict(
        JobState.WAITING,
        count,
        until,
        avoided,
        f"it will be retried after {until:%H:%M:%S} UTC",
    )


def _count(last: Tried, suspects: Collection[str], *, started_elsewhere: bool) -> Count:
    fault = last.fault
    if fault.kind.count is not Count.FAILED:
        return fault.kind.count
    if last.node in suspects and fault.kind.final is not Final.AT_ONCE:
        return Count.LOST
    # The program exists, but not on this node.
    if fault.step is Step.START and started_elsewhere:
        return Count.LOST
    return Count.FAILED


def _end(
    job: Job,
    tried: Sequence[Tried],
    suspects: Collection[str],
    failures: int,
    losses: int,
    *,
    started_elsewhere: bool,
) -> str:
    """Why the job is not retried; empty if it is."""
    last = tried[-1]
    fault = last.fault
    if fault.kind.final is Final.AT_ONCE:
        return "a retry would fail in the same way"
    if fault.kind.final is Final.TWO_NODES and not (fault.step is Step.START and started_elsewhere):
        agreeing = {t.node for t in tried if t.error.reason == last.error.reason} - set(suspects)
        if len(agreeing) > 1:
            return f"it failed on {len(agreeing)} nodes for the same reason"
    # Failures counted before a node became suspect do not count against the job either.
    held = sum(1 for t in tried if t.fault.kind.count is Count.FAILED and t.node not in suspects)
    if min(failures, held) >= job.max_attempts:
        return f"{failures} attempts failed, and the task allows {job.max_attempts}"
    if losses >= MAX_LOST:
        return (
            f"{losses} attempts were lost through no fault of the job, and {MAX_LOST} is the limit"
        )
    return ""


def _with(avoided: Sequence[str], node: str) -> tuple[str, ...]:
    return (*(known for known in avoided if known != node), node)[-MAX_AVOIDED:]
