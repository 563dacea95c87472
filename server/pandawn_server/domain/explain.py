"""Answers to *why is it not running*, made of the predicates that matching itself uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pandawn_server.domain.jobs import Job, JobKind, JobState, Requirements
from pandawn_server.domain.matching import Candidate, Failed, Hold, Match, Rules, sentence, unmet
from pandawn_server.domain.queues import QueueStatus


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A condition that excludes nodes, by name: what is asked and what there is, and what would help."""

    predicate: str
    excluded: frozenset[str]
    detail: str
    remedy: str

    @property
    def excluded_nodes(self) -> int:
        """How many nodes it excludes."""
        return len(self.excluded)


def node_obstacles(
    job: Candidate,
    offers: Mapping[str, Sequence[Requirements]],
    rules: Rules,
    status: QueueStatus,
    suspended: Mapping[str, str],
) -> list[Obstacle]:
    """What keeps the nodes of a queue from taking a runnable job.

    `offers` are what the live pilots of each node offer to jobs; a node is excluded by a predicate
    when all its pilots fail it. `suspended` are the nodes that get no jobs, with the reasons.
    """
    found = []
    if status is QueueStatus.OFFLINE:
        found.append(
            Obstacle(
                "QUEUE_OFFLINE",
                frozenset(offers),
                "the queue is offline and gives out no jobs",
                "the site administrator can set it online",
            )
        )
    if not offers:
        found.append(
            Obstacle(
                "NO_LIVE_PILOT",
                frozenset(),
                "no pilot of the queue is in contact",
                "start pilots at the site, or submit to another queue",
            )
        )
    out = {node: reason for node, reason in suspended.items() if node in offers}
    if out:
        node, reason = next(iter(out.items()))
        found.append(
            Obstacle(
                "NODE_SUSPENDED",
                frozenset(out),
                f"{node}: {reason}",
                "mend the node, or wait until it is tried again",
            )
        )
    return found + _unmet_requirements(job, offers, rules)


def _unmet_requirements(
    job: Candidate, offers: Mapping[str, Sequence[Requirements]], rules: Rules
) -> list[Obstacle]:
    excluded: dict[str, set[str]] = {}
    nearest: dict[str, Failed] = {}
    for node, of_node in offers.items():
        failures = [{f.predicate: f for f in unmet(job, offer, rules)} for offer in of_node]
        for predicate in set.intersection(*(set(f) for f in failures)) if failures else set():
            excluded.setdefault(predicate, set()).add(node)
            best = max((f[predicate] for f in failures), key=lambda f: f.offered)
            if predicate not in nearest or best.offered > nearest[predicate].offered:
                nearest[predicate] = best
    return [_requirement_obstacle(nearest[name], excluded[name]) for name in sorted(excluded)]


_UNITS = {
    "MEMORY": "bytes",
    "CORES": "cores",
    "DISK": "bytes",
    "WALL_TIME": "s",
    "QUEUE_INPUT_LIMIT": "bytes",
}

_REMEDIES = {
    "MEMORY": "ask for at most {offered:,} bytes of memory",
    "CORES": "ask for at most {offered:,} cores",
    "DISK": "read fewer files a job, or free disk on a node: at most {offered:,} bytes are free",
    "WALL_TIME": "ask for at most {offered:,} s: pilots have no more time left",
    "QUEUE_INPUT_LIMIT": "submit with fewer files a job: the queue takes {offered:,} bytes",
}


def _requirement_obstacle(nearest: Failed, excluded: Collection[str]) -> Obstacle:
    unit = _UNITS[nearest.predicate]
    return Obstacle(
        nearest.predicate,
        frozenset(excluded),
        f"the job needs {nearest.asked:,} {unit}, the best of these nodes offers {nearest.offered:,}",
        _REMEDIES[nearest.predicate].format(offered=nearest.offered),
    )


def summarize(
    job: Job,
    *,
    obstacles: Collection[Obstacle] = (),
    node_count: int = 0,
    jobs_ahead: int = 0,
    hold: Hold | None = None,
    match: Match | None = None,
    node: str = "",
) -> str:
    """Where a job stands and why, in a sentence or two for people."""
    state = job.state
    if state is JobState.WAITING:
        return "waits for the build job of its task"
    if state is JobState.ACTIVATED:
        return _why_activated(obstacles, node_count, jobs_ahead, hold)
    given = sentence(match, node) if match is not None else "was never given to a pilot"
    if state is JobState.FAILED and job.error is not None:
        why = f"{job.error.reason}: {job.error.text}"
        if match is None:
            return f"failed without an attempt: {why}"
        times = "1 attempt" if job.failures == 1 else f"{job.failures} attempts"
        return f"failed after {times}: {why}; the last attempt was {given}"
    if state is JobState.CANCELLED:
        return f"was cancelled; it {given}" if match is None else f"was cancelled; it was {given}"
    if state is JobState.FINISHED:
        return f"finished; it was {given}"
    kind = "builds" if job.kind is JobKind.BUILD else "runs"
    ending = (
        "; it was asked to stop and ends at its pilot's next contact"
        if job.cancel_requested
        else ""
    )
    return f"{kind} now; it was {given}{ending}"


def _why_activated(
    obstacles: Collection[Obstacle], node_count: int, jobs_ahead: int, hold: Hold | None
) -> str:
    # One that excludes every node is the answer; failing that, all of them together may be.
    blocking = [o for o in obstacles if o.excluded_nodes >= node_count][:1] or obstacles
    if blocking and len(frozenset[str]().union(*(o.excluded for o in blocking))) >= node_count:
        return "no node can take it: " + "; ".join(f"{o.detail}; {o.remedy}" for o in blocking)
    parts = []
    if hold is not None:
        parts.append(
            f"is kept for {hold.node}, which holds its files, until {hold.until:%H:%M:%S} UTC at most"
        )
    if jobs_ahead:
        parts.append(f"{jobs_ahead:,} jobs go before it")
    if obstacles:
        parts.append(f"only some of the {node_count} nodes can take it")
    if not parts:
        parts.append("is next: a pilot with a free slot gets it when it asks")
    return "runnable; " + "; ".join(parts)
