"""Ends attempts: those that pilots report, that the reaper expires, or that a deregistration leaves.

Runs inside the transaction of its caller, which has locked the leases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pandawn_server.domain.access.lists import NO_LIMIT
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.attempts import AttemptEnd
from pandawn_server.domain.leases.faults import Count, Evidence, fault_of
from pandawn_server.domain.leases.leases import Lease
from pandawn_server.domain.leases.nodes import Condition, EndedAttempt, Node
from pandawn_server.domain.leases.retries import Verdict
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.tasks.jobs import (
    FINAL_STATES,
    Job,
    JobError,
    JobKind,
    JobState,
    Phase,
    upstream_failed,
)
from pandawn_server.domain.tasks.tasks import File, FileRole
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import attempts, leases, nodes
from pandawn_server.storage.monitor import events
from pandawn_server.storage.tasks import files, job_moves, jobs, tasks
from pandawn_server.usecases.access.limits import release, running_limit
from pandawn_server.usecases.leases.judging import time_needed, verdicts
from pandawn_server.usecases.leases.node_health import judge_nodes


@dataclass(frozen=True, slots=True)
class Ending:
    """An attempt that ends, with its locked lease.

    `reported`: its pilot reported the end. `slow`: its payload took far longer than those of its task elsewhere.
    `stored` are the files that it stored, by role.
    """

    end: AttemptEnd
    lease: Lease
    reported: bool = False
    slow: bool = False
    stored: tuple[tuple[FileRole, File], ...] = ()


def ending(lease: Lease, outcome: JobState, error: JobError | None = None) -> Ending:
    """The ending of an attempt of which only the lease is known."""
    return Ending(AttemptEnd(lease.job_id, lease.attempt, outcome, error=error), lease)


@dataclass(frozen=True, slots=True)
class Ended:
    """The new state of each job, by job.

    `doubts` are, by node, the users whose jobs fail there but not elsewhere.
    """

    states: Mapping[int, JobState]
    doubts: Mapping[NodeKey, frozenset[str]] = field(default_factory=dict)


def end_attempts(
    tx: Transaction, config: Configuration, endings: Sequence[Ending], now: datetime
) -> Ended:
    """Ends attempts whose leases the caller has locked; moves the jobs on, and judges the nodes."""
    if not endings:
        return Ended({})
    tasks.lock_tasks(tx, {e.lease.task_id for e in endings if e.lease.job_kind is JobKind.BUILD})
    # Locked, or a cancellation between the read and the move would be lost.
    ended_jobs = jobs.lock_jobs(tx, [e.end.job_id for e in endings])
    restricted = nodes.restricted_nodes(tx)
    judged = verdicts(
        tx, ended_jobs, [(e.end, e.lease, e.reported) for e in endings], restricted, now
    )
    found = {
        e.end.job_id: judged.get(e.end.job_id) or _without_error(ended_jobs[e.end.job_id], e.end)
        for e in endings
    }
    states = {job_id: verdict.state for job_id, verdict in found.items()}
    endings = [_judged(e, found[e.end.job_id]) for e in endings]
    attempts.end_attempts(tx, [e.end for e in endings], now)
    leases.delete_leases(tx, states.keys())
    job_moves.move(
        tx, [_change(ended_jobs[e.end.job_id], e.end, found[e.end.job_id]) for e in endings], now
    )
    files.insert_stored(tx, [f for e in endings for f in _stored_files(e)])
    happened = [_event(e, ended_jobs[e.end.job_id], found[e.end.job_id], now) for e in endings]
    for ending in endings:
        job = ended_jobs[ending.end.job_id]
        state = states[job.job_id]
        if job.kind is JobKind.BUILD and state in FINAL_STATES:
            happened += settle_dependants(tx, config, job, state, _library(ending), now)
    evidence = _evidence(endings, ended_jobs, restricted, now)
    of_nodes, doubts = judge_nodes(tx, evidence, restricted, now)
    happened += of_nodes
    events.insert_events(tx, happened)
    return Ended(states, doubts)


def _without_error(job: Job, end: AttemptEnd) -> Verdict:
    if end.outcome is JobState.FINISHED:
        return Verdict(JobState.FINISHED, Count.NOTHING)
    if end.outcome is not JobState.ACTIVATED:
        raise ValueError(f"attempt {end.attempt} of job {job.job_id} failed without an error")
    state = JobState.CANCELLED if job.cancel_requested else JobState.ACTIVATED
    return Verdict(state, Count.NOTHING, avoided=job.avoided)


def _judged(ending: Ending, verdict: Verdict) -> Ending:
    state, outcome = verdict.state, ending.end.outcome
    if state is JobState.CANCELLED:
        outcome = state
    elif outcome is JobState.FAILED and verdict.count is Count.NOTHING:
        outcome = JobState.ACTIVATED
    reported = state if ending.reported else None
    return replace(ending, end=replace(ending.end, outcome=outcome, reported_state=reported))


def _change(job: Job, end: AttemptEnd, verdict: Verdict) -> job_moves.JobChange:
    # A job that is retried shows the error of its last attempt until the next attempt ends.
    error = None if verdict.state in {JobState.FINISHED, JobState.CANCELLED} else end.error
    return job_moves.JobChange(
        job_id=end.job_id,
        queue=job.queue,
        state=verdict.state,
        failed=verdict.count is Count.FAILED,
        lost=verdict.count is Count.LOST,
        error=error,
        bytes_from_cache=end.bytes_from_cache,
        retry_time=verdict.not_before,
        avoided=verdict.avoided,
        wall_time=time_needed(job, end),
    )


def _stored_files(ending: Ending) -> list[files.StoredFile]:
    # Each attempt stores a log; only a successful one has outputs.
    return [
        files.StoredFile(
            ending.end.job_id, role, ending.end.attempt if role is FileRole.LOG else position, file
        )
        for position, (role, file) in enumerate(ending.stored)
        if ending.end.outcome is JobState.FINISHED or role is FileRole.LOG
    ]


def _library(ending: Ending) -> File | None:
    return next((file for role, file in ending.stored if role is FileRole.OUTPUT), None)


def settle_dependants(
    tx: Transaction,
    config: Configuration,
    build: Job,
    state: JobState,
    library: File | None,
    now: datetime,
) -> list[Event]:
    """Releases the jobs that wait for a build job, or ends them with it; returns the events."""
    if state is JobState.FINISHED and library is not None:
        tasks.set_library(tx, build.task_id, library)
        limit = running_limit(tx, config, build.queue, build.user, now)
        count = job_moves.activate_built(
            tx, build.queue, build.task_id, library.size_bytes, now, throttled=limit != NO_LIMIT
        )
        if limit != NO_LIMIT:
            count = release(tx, build.queue, build.user, limit, now)
        kind, text = EventKind.TASK_BUILT, f"the library was built; {count} jobs became runnable"
    else:
        error: JobError | None = None
        after = JobState.CANCELLED
        if state is JobState.FAILED:
            error, after = upstream_failed(build.job_id), JobState.FAILED
        count = len(job_moves.end_waiting(tx, build.task_id, after, error, now))
        kind, text = (
            EventKind.TASK_BUILD_ENDED,
            f"the build job is {state.value}; {count} jobs ended with it",
        )
    return [
        Event(
            now,
            kind,
            text,
            task_id=build.task_id,
            job_id=build.job_id,
            queue=build.queue,
            user=build.user,
        )
    ]


def _event(ending: Ending, job: Job, verdict: Verdict, now: datetime) -> Event:
    end, state = ending.end, verdict.state
    number = f"attempt {end.attempt}"
    if state is JobState.ACTIVATED and end.outcome is JobState.ACTIVATED:
        kind, text = EventKind.JOB_RELEASED, f"{number} was given back before it started"
        if end.error is not None:
            text = f"{number} was given back ({_why(end)})"
    elif state in {JobState.ACTIVATED, JobState.WAITING}:
        kind = EventKind.JOB_RETRIED
        word = "failed" if verdict.count is Count.FAILED else "was lost"
        text = f"{number} {word} ({_why(end)}); {verdict.why}"
        if verdict.avoided:
            text += f", not on {', '.join(verdict.avoided)} while there are other nodes"
    elif state is JobState.FINISHED:
        kind = EventKind.JOB_FINISHED
        text = f"{number} finished; {end.bytes_from_cache:,} of {end.input_bytes:,} input bytes came from the cache"
    else:
        kind, text = EventKind[f"JOB_{state.name}"], f"{number} ended: {_why(end)}"
        if verdict.why:
            text += f"; {verdict.why}"
    return Event(
        now,
        kind,
        text,
        task_id=job.task_id,
        job_id=job.job_id,
        attempt=end.attempt,
        queue=job.queue,
        node=ending.lease.key.node,
        pilot_id=ending.lease.pilot_id,
        user=job.user,
    )


def _why(end: AttemptEnd) -> str:
    return "cancelled" if end.error is None else f"{end.error.reason}: {end.error.text}"


def _evidence(
    endings: Sequence[Ending],
    of: Mapping[int, Job],
    restricted: Mapping[NodeKey, Node],
    now: datetime,
) -> dict[NodeKey, list[EndedAttempt]]:
    """The ends that may be evidence about their nodes, by node: failed ones, slow ones, and any on probation."""
    found: dict[NodeKey, list[EndedAttempt]] = {}
    for ending in endings:
        end, key = ending.end, ending.lease.key
        if end.outcome not in {JobState.FAILED, JobState.FINISHED}:
            continue
        fault = None
        if end.outcome is JobState.FAILED and end.error is not None:
            fault = fault_of(end.error, reported=ending.reported)
        node = restricted.get(key)
        probes = node is not None and node.condition(now) is Condition.PROBATION
        is_bad = fault is not None and fault.kind.evidence is not Evidence.NONE
        if is_bad or ending.slow or probes:
            job, payload = of[end.job_id], end.phase_times.get(Phase.PAYLOAD)
            ended = EndedAttempt(job.job_id, job.task_id, job.user, fault, now, payload)
            found.setdefault(key, []).append(ended)
    return found
