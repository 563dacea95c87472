"""Explains why a job is not running, or why it ran where it did, using the code that decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.dispatch.explain import (
    Obstacle,
    StatusOverride,
    avoided_obstacles,
    nearest_change,
    node_obstacles,
    summarize,
    why_not_local,
    why_throttled,
)
from pandawn_server.domain.dispatch.matching import Candidate, Hold, Rules, Share
from pandawn_server.domain.dispatch.values import Standing
from pandawn_server.domain.leases.attempts import Match
from pandawn_server.domain.leases.nodes import because_of_node
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.queues.queues import Queue, QueueStatus
from pandawn_server.domain.tasks.jobs import Job, JobState, Requirements, job_not_found
from pandawn_server.storage.access import limits
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import attempts, nodes, pilots
from pandawn_server.storage.queues import revisions
from pandawn_server.storage.tasks import files, jobs, tasks
from pandawn_server.storage.tasks.labels import labelled
from pandawn_server.usecases.access.limits import running_limit
from pandawn_server.usecases.access.reach import require_sight_of_job
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.dispatch.feeding import MAX_LIVE_NODES, feed_nodes, load_jobs


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to *why*; see `pandawn/desk/v1/desk.proto`. `match` goes with `match_node`."""

    job: Job
    summary: str
    obstacles: Sequence[Obstacle] = ()
    node_count: int = 0
    jobs_ahead: int = 0
    hold: Hold | None = None
    match: Match | None = None
    match_node: str = ""
    shares: Sequence[Share] = ()
    passed_over: str = ""
    unversioned_inputs: int = 0


def explain_job(context: Context, job_id: int, by: Principal) -> Explanation:
    """Explains where a job stands, and which queues were not chosen for its task.

    Raises `NotFoundError` (JOB_NOT_FOUND) and `ForbiddenError` (NOT_YOUR_JOB).
    """
    found = _explain(context, job_id, by)
    with context.db.read() as tx:
        task = tasks.get_tasks(tx, [found.job.task_id])[found.job.task_id]
        inputs = files.get_inputs(tx, [job_id])[job_id]
    unversioned = sum(not file.version for file in inputs)
    summary = found.summary
    if unversioned:
        summary += f"; {why_not_local(unversioned, len(inputs))}"
    return replace(
        found, summary=summary, passed_over=task.passed_over, unversioned_inputs=unversioned
    )


def _explain(context: Context, job_id: int, by: Principal) -> Explanation:
    now = context.clock()
    with context.db.read() as tx:
        job = next(iter(labelled(tx, list(jobs.get_jobs(tx, [job_id]).values()))), None)
        if job is None:
            raise job_not_found(job_id)
        require_sight_of_job(tx, by, job)
        if job.throttled:
            limit = running_limit(tx, context.config.current(tx), job.queue, job.user, now)
            load = limits.load_of(tx, job.queue, job.user)
            return Explanation(job, why_throttled(job, load.active, limit))
        tried = attempts.list_attempts(tx, job_id)
        last = tried[-1] if tried else None
        if job.state is not JobState.ACTIVATED:
            return Explanation(
                job,
                summarize(job, match=last.match if last else None, node=last.node if last else ""),
                match=last.match if last else None,
                match_node=last.node if last else "",
            )
        queue = context.config.queue(tx, job.queue, now)
        # A queue with a job that has not ended cannot be deleted.
        assert queue is not None, f"queue {job.queue} of job {job_id} is gone"
        live = pilots.live_pilots(tx, queue.name, MAX_LIVE_NODES)
        suspended = nodes.suspended_nodes(tx, now)
        ahead = jobs.count_ahead(tx, job)
        status = _status_for(tx, queue, job)
        override = _status_override(context, tx, queue.name, now)
    # In a transaction of its own: counting a long queue takes a while, and pilots wait for this lock.
    with context.desks.lock, context.db.read() as tx:
        standing = _standing(context, tx, queue, job_id, now)
    candidate = Candidate(
        job.job_id, job.priority, job.input_bytes, job.state_time, job.requirements
    )
    rules = Rules(queue.priority_band, queue.locality_wait, queue.max_input_bytes)
    offers = _offers(live)
    out = {
        pilot.key.node: because_of_node(suspended[pilot.key], now)
        for pilot in live
        if pilot.key in suspended
    }
    obstacles = node_obstacles(candidate, offers, rules, status, out, override)
    obstacles += avoided_obstacles(offers, job.avoided)
    nearest = nearest_change(candidate, offers, rules, out)
    kept = overtaken_until = None
    if standing is not None:
        # The matchmaker learns a node's offer when it polls: after a restart it may hold a job for a node too small.
        if standing.held_for and standing.held_until and not nearest:
            kept = Hold(standing.held_for.node, standing.held_until)
        if standing.overdue_at is not None and standing.overdue_at > now:
            overtaken_until = standing.overdue_at
    return Explanation(
        job,
        summarize(
            job,
            obstacles=obstacles,
            node_count=len(offers),
            jobs_ahead=ahead,
            hold=kept,
            overtaken_until=overtaken_until,
            nearest=nearest,
        ),
        obstacles=obstacles,
        node_count=len(offers),
        jobs_ahead=ahead,
        hold=kept,
        match=last.match if last else None,
        match_node=last.node if last else "",
        shares=[Share(key.node, held) for key, held in standing.shares] if standing else (),
    )


def _status_for(tx: Transaction, queue: Queue, job: Job) -> QueueStatus:
    """The status of a queue as it concerns a job: for test jobs, TEST counts as ONLINE."""
    if (
        queue.status is QueueStatus.TEST
        and tasks.get_tasks(tx, [job.task_id])[job.task_id].spec.test
    ):
        return QueueStatus.ONLINE
    return queue.status


def _status_override(
    context: Context, tx: Transaction, queue: str, now: datetime
) -> StatusOverride | None:
    layers = context.config.current(tx).layers(queue, now)
    for override in () if layers is None else layers.overrides:
        if override.parameter == "status":
            made = revisions.get_revisions(tx, [override.revision]).get(override.revision)
            if made is None:
                return StatusOverride(override.expire_time, "", "")
            return StatusOverride(override.expire_time, made.author.name, made.author.message)
    return None


def _offers(live: Sequence[Pilot]) -> dict[str, list[Requirements]]:
    offers: dict[str, list[Requirements]] = {}
    for pilot in live:
        offers.setdefault(pilot.key.node, []).append(pilot.offer)
    return offers


def _standing(
    context: Context, tx: Transaction, queue: Queue, job_id: int, now: datetime
) -> Standing | None:
    """The job's position in the matchmaker, after loading the job and the nodes if necessary."""
    desk = context.desks.of(queue, now)
    feed_nodes(context, tx, queue, desk, {}, now)
    load_jobs(tx, desk, [job_id], now)
    return desk.matchmaker.standing(job_id, now)
