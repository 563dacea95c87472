"""Why a job is not running, or why it ran where it did: by the code that decides, never by a copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.explain import Obstacle, node_obstacles, summarize
from pandawn_server.domain.jobs import Job, JobState, Requirements
from pandawn_server.domain.matching import Candidate, Hold, Match, Rules, Share, hold
from pandawn_server.domain.pilots import Pilot
from pandawn_server.storage import attempts, jobs, pilots, queues
from pandawn_server.storage.database import Transaction
from pandawn_server.usecases.cancel import job_not_found
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.locality import OTHER_NODES, held_bytes, suspended_nodes

SHARES_SHOWN = 10
"""Nodes shown with what they hold of the job."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to *why*; see `pandawn/broker/v1/broker.proto`. `match` goes with `match_node`."""

    job: Job
    summary: str
    obstacles: Sequence[Obstacle] = ()
    node_count: int = 0
    jobs_ahead: int = 0
    hold: Hold | None = None
    match: Match | None = None
    match_node: str = ""
    shares: Sequence[Share] = ()


def explain_job(context: Context, job_id: int) -> Explanation:
    """Explains where a job stands. Raises `NotFoundError` (JOB_NOT_FOUND)."""
    now = context.clock()
    with context.db.read() as tx:
        job = jobs.get_jobs(tx, [job_id]).get(job_id)
        if job is None:
            raise job_not_found(job_id)
        tried = attempts.list_attempts(tx, job_id)
        last = tried[-1] if tried else None
        if job.state is not JobState.ACTIVATED:
            return Explanation(
                job,
                summarize(job, match=last.match if last else None, node=last.node if last else ""),
                match=last.match if last else None,
                match_node=last.node if last else "",
            )
        queue = queues.get_queues(tx, [job.queue])[job.queue]
        live = pilots.live_pilots(tx, queue.name, OTHER_NODES)
        candidate = Candidate(
            job.job_id, job.priority, job.input_bytes, job.state_time, job.requirements
        )
        rules = Rules(queue.priority_band, queue.locality_wait, queue.max_input_bytes)
        offers = _offers(live)
        out = {
            key.node: reason
            for key, reason in suspended_nodes(tx, {p.key for p in live}, now).items()
        }
        obstacles = node_obstacles(candidate, offers, rules, queue.status, out)
        shares = _shares(context, tx, job, live)
        # The node that holds most: the share of a node that gets no jobs is of no use.
        best = next((share for share in shares if share.node not in out), None)
        kept = hold(candidate, 0, best, rules, now)
        ahead = jobs.count_ahead(tx, job)
        return Explanation(
            job,
            summarize(
                job, obstacles=obstacles, node_count=len(offers), jobs_ahead=ahead, hold=kept
            ),
            obstacles=obstacles,
            node_count=len(offers),
            jobs_ahead=ahead,
            hold=kept,
            match=last.match if last else None,
            match_node=last.node if last else "",
            shares=shares[:SHARES_SHOWN],
        )


def _offers(live: Sequence[Pilot]) -> dict[str, list[Requirements]]:
    offers: dict[str, list[Requirements]] = {}
    for pilot in live:
        offers.setdefault(pilot.key.node, []).append(pilot.offer)
    return offers


def _shares(context: Context, tx: Transaction, job: Job, live: Sequence[Pilot]) -> list[Share]:
    try:
        held = held_bytes(context, tx, [job.job_id], sorted({pilot.key for pilot in live}))
    except UnavailableError:
        # Not knowing is not an obstacle: the job runs without locality, and so says its match.
        return []
    shares = [
        Share(key.node, by_job[job.job_id]) for key, by_job in held.items() if job.job_id in by_job
    ]
    return sorted(shares, key=lambda share: (-share.local_bytes, share.node))
