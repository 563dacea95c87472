"""What becomes of a job after an attempt ended badly: whether, when and where it is tried again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.leases.faults import MAX_LOST, Count, Fault, Final, Step, fault_of
from pandawn_server.domain.tasks.jobs import Job, JobError, JobState

MAX_AVOIDED = 8
"""Nodes that a job avoids, at most: the last on which it failed."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt at a job that ended with an error, and where."""

    node: str
    error: JobError
    reported: bool = True

    @property
    def fault(self) -> Fault:
        """What the table says of it."""
        return fault_of(self.error, reported=self.reported)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a job; `avoided` are the nodes on which it is not tried, if there are others.

    `why` is for people: what kept it from another try, or when and where that will be.
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
    """What becomes of a job whose last attempt is `tried[-1]`; those before it come oldest first.

    `suspects` are nodes that get no jobs, or only probes: what happens there is not held against the job.
    `started_elsewhere` says that payloads of its task run, or have run, on nodes where this one did not start.
    """
    if job.cancel_requested:
        # Whatever it ended in, it ended as cancelled, and is counted as neither.
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
        return Verdict(JobState.ACTIVATED, count, avoided=avoided, why="it will be tried again")
    until = now + pause
    return Verdict(
        JobState.WAITING,
        count,
        until,
        avoided,
        f"it will be tried again after {until:%H:%M:%S} UTC",
    )


def _count(last: Tried, suspects: Collection[str], *, started_elsewhere: bool) -> Count:
    fault = last.fault
    if fault.kind.count is not Count.FAILED:
        return fault.kind.count
    if last.node in suspects and fault.kind.final is not Final.AT_ONCE:
        return Count.LOST
    # The program is there, but not on this node.
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
    """Why the job is not tried again, empty if it is."""
    last = tried[-1]
    fault = last.fault
    if fault.kind.final is Final.AT_ONCE:
        return "another attempt would end like it"
    if fault.kind.final is Final.TWO_NODES and not (fault.step is Step.START and started_elsewhere):
        said = {t.node for t in tried if t.error.reason == last.error.reason} - set(suspects)
        if len(said) > 1:
            return f"{len(said)} nodes said so"
    # What was counted before a node came under suspicion is not held against the job either.
    held = sum(1 for t in tried if t.fault.kind.count is Count.FAILED and t.node not in suspects)
    if min(failures, held) >= job.max_attempts:
        return f"{failures} attempts failed, and the task allows {job.max_attempts}"
    if losses >= MAX_LOST:
        return f"{losses} attempts were lost by no fault of the job, and there is a bound"
    return ""


def _with(avoided: Sequence[str], node: str) -> tuple[str, ...]:
    return (*(known for known in avoided if known != node), node)[-MAX_AVOIDED:]
