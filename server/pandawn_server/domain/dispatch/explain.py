"""Explains why a job is not running, with the predicates that matching itself uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.dispatch.matching import Candidate, Failed, Hold, Rules, sentence, unmet
from pandawn_server.domain.leases.attempts import Match
from pandawn_server.domain.leases.faults import MAX_LOST
from pandawn_server.domain.queues.queues import QueueStatus
from pandawn_server.domain.tasks.jobs import Job, JobKind, JobState, Requirements


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A condition that excludes nodes: its name, what is needed and offered, and what would help."""

    predicate: str
    excluded: frozenset[str]
    detail: str
    remedy: str

    @property
    def excluded_nodes(self) -> int:
        """How many nodes it excludes."""
        return len(self.excluded)


_KEEP_JOBS = {
    QueueStatus.OFFLINE: (
        "QUEUE_OFFLINE",
        "the queue is offline and gives out no jobs",
        "the site administrator can set it online",
    ),
    QueueStatus.PAUSED: (
        "QUEUE_PAUSED",
        "the queue is paused and gives out no jobs for now",
        "wait, or ask the site administrator until when",
    ),
    QueueStatus.TEST: (
        "QUEUE_TEST",
        "the queue is being tried out and gives out jobs of test tasks only",
        "wait until the site administrator sets it online, or submit to another queue",
    ),
}
"""Why a queue in this status gives out no jobs, and what would help."""


@dataclass(frozen=True, slots=True)
class StatusOverride:
    """An operator's temporary status of a queue: its end, author and reason, the last two if given."""

    until: datetime
    author: str
    message: str


def node_obstacles(
    job: Candidate,
    offers: Mapping[str, Sequence[Requirements]],
    rules: Rules,
    status: QueueStatus,
    suspended: Mapping[str, str],
    override: StatusOverride | None = None,
) -> list[Obstacle]:
    """What keeps the nodes of a queue from taking a runnable job.

    `offers` are the offers of each node's live pilots; a predicate excludes a node when all its pilots
    fail it. `status` is the queue's status for this job: ONLINE for a test job on a queue in TEST;
    `override` is set if that status is temporary. `suspended` maps nodes that get no jobs to the reason.
    """
    found = []
    if status in _KEEP_JOBS:
        predicate, detail, remedy = _KEEP_JOBS[status]
        if override is not None:
            detail += f", set by {override.author or 'an operator'} until {override.until:%Y-%m-%d %H:%M} UTC"
            detail += f": {override.message}" if override.message else ""
            remedy = f"wait until {override.until:%Y-%m-%d %H:%M} UTC, when this override ends"
        found.append(Obstacle(predicate, frozenset(offers), detail, remedy))
    if not offers:
        found.append(
            Obstacle(
                "NO_LIVE_PILOT",
                frozenset(),
                "the queue has no live pilot",
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
                "repair the node, or wait until it is tried again",
            )
        )
    return found + _unmet_requirements(job, offers, rules)


def avoided_obstacles(offers: Collection[str], avoided: Collection[str]) -> list[Obstacle]:
    """The nodes on which the job has failed, if other nodes have live pilots."""
    failed_on = frozenset(avoided) & frozenset(offers)
    if not failed_on or len(failed_on) == len(offers):
        return []
    return [
        Obstacle(
            "FAILED_THERE_BEFORE",
            failed_on,
            f"the job has failed on {', '.join(sorted(failed_on))}, and there are other nodes",
            "wait for a slot on another node; after five minutes these nodes are tried again",
        )
    ]


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


def nearest_change(
    job: Candidate,
    offers: Mapping[str, Sequence[Requirements]],
    rules: Rules,
    suspended: Collection[str],
) -> str:
    """What to ask for instead, when no node can take the job: the changes for the node that comes closest.

    Empty if some node can take it, or if no node gets jobs.
    """
    lacks = [
        (unmet(job, offer, rules), node)
        for node, of_node in offers.items()
        if node not in suspended
        for offer in of_node
    ]
    if not lacks:
        return ""
    failed, node = min(lacks, key=lambda lack: (len(lack[0]), sum(map(_excess, lack[0])), lack[1]))
    if not failed:
        return ""
    return f"nearest is {node}: " + ", and ".join(map(_remedy, failed))


def _excess(failed: Failed) -> float:
    return failed.asked / max(failed.offered, 1)


_UNITS = {
    "MEMORY": "of memory",
    "CORES": "cores",
    "DISK": "of disk",
    "WALL_TIME": "s",
    "QUEUE_INPUT_LIMIT": "of input",
}

_REMEDIES = {
    "MEMORY": "ask for at most {most}",
    "CORES": "ask for at most {most}",
    "DISK": "read fewer files a job, or free disk on a node: at most {most} are free",
    "WALL_TIME": "ask for at most {most}: pilots have no more time left",
    "QUEUE_INPUT_LIMIT": "submit with fewer files a job: the queue takes {most}",
}

_GIB = 2**30


def _number(predicate: str, amount: int) -> str:
    """A formatted amount; bytes in GiB too, because people ask in GiB."""
    if predicate in {"CORES", "WALL_TIME"}:
        return f"{amount:,}"
    return f"{amount:,} bytes ({amount / _GIB:,.1f} GiB)" if amount >= _GIB else f"{amount:,} bytes"


def _amount(predicate: str, amount: int) -> str:
    unit = "core" if predicate == "CORES" and amount == 1 else _UNITS[predicate]
    return f"{_number(predicate, amount)} {unit}"


def _remedy(failed: Failed) -> str:
    return _REMEDIES[failed.predicate].format(most=_amount(failed.predicate, failed.offered))


def _requirement_obstacle(nearest: Failed, excluded: Collection[str]) -> Obstacle:
    name = nearest.predicate
    offers = "the queue takes" if name == "QUEUE_INPUT_LIMIT" else "the best of these nodes offers"
    return Obstacle(
        name,
        frozenset(excluded),
        f"the job needs {_amount(name, nearest.asked)}, {offers} {_number(name, nearest.offered)}",
        _remedy(nearest),
    )


def why_not_local(unversioned: int, inputs: int) -> str:
    """Why nodes' copies of some inputs do not count: their version is unknown."""
    which = (
        "its input files" if unversioned == inputs else f"{unversioned} of its {inputs} input files"
    )
    return (
        f"{which} had neither a checksum nor a modification time at submission, "
        "so copies of them on nodes do not count as local"
    )


def summarize(
    job: Job,
    *,
    obstacles: Collection[Obstacle] = (),
    node_count: int = 0,
    jobs_ahead: int = 0,
    hold: Hold | None = None,
    overtaken_until: datetime | None = None,
    nearest: str = "",
    match: Match | None = None,
    node: str = "",
) -> str:
    """Where a job stands and why, in a sentence or two for people.

    For a runnable job: `jobs_ahead` precede it by priority and age, others may overtake it until
    `overtaken_until`, and `nearest` is the result of `nearest_change`.
    """
    state = job.state
    if state is JobState.WAITING:
        if job.retry_time is not None:
            return _why_paused(job)
        return "waits for the build job of its task"
    if state is JobState.ACTIVATED:
        reason = _why_no_node(obstacles, node_count, nearest)
        return reason or _why_activated(obstacles, node_count, jobs_ahead, hold, overtaken_until)
    given = sentence(match, node) if match is not None else "was never given to a pilot"
    if state is JobState.FAILED and job.error is not None:
        why = f"{job.error.reason}: {job.error.text}"
        if match is None:
            return f"failed without an attempt: {why}"
        count = job.failures + job.losses
        times = "1 attempt" if count == 1 else f"{count} attempts"
        return f"failed after {times}: {why}; the last attempt was {given}"
    if state is JobState.CANCELLED:
        return f"was cancelled; it {given}" if match is None else f"was cancelled; it was {given}"
    if state is JobState.FINISHED:
        return f"finished; it was {given}"
    kind = "builds" if job.kind is JobKind.BUILD else "runs"
    ending = (
        "; it was asked to stop and ends when its pilot next calls" if job.cancel_requested else ""
    )
    return f"{kind} now; it was {given}{ending}"


def _why_paused(job: Job) -> str:
    error = "" if job.error is None else f" ({job.error.reason}: {job.error.text})"
    counts = f"{job.failures} of {job.max_attempts} attempts failed"
    if job.losses:
        counts += f", and {job.losses} of {MAX_LOST} were lost through no fault of the job"
    avoids = f", not on {', '.join(job.avoided)} while there are other nodes" if job.avoided else ""
    return (
        f"waits after its last attempt failed on {job.node}{error}: {counts}; it is tried again after "
        f"{job.retry_time:%H:%M:%S} UTC{avoids}"
    )


def why_throttled(job: Job, active: int, limit: int) -> str:
    """Why a throttled job waits: its user has `active` jobs on the queue, the limit is `limit` (0: no limit)."""
    if limit == 0 or active < limit:
        return f"waits for the next check of the limits of {job.user}; it becomes runnable within seconds"
    many = f"{active:,} jobs" if active != 1 else "1 job"
    return (
        f"waits because {job.user} has {many} on {job.queue} runnable or running, and the limit is "
        f"{limit:,}; it becomes runnable when one of them ends"
    )


def _why_no_node(obstacles: Collection[Obstacle], node_count: int, nearest: str) -> str:
    # Obstacles that exclude every node are the answer; failing that, all of them together may be.
    blocking = [o for o in obstacles if o.excluded_nodes >= node_count] or obstacles
    if not blocking or len(frozenset[str]().union(*(o.excluded for o in blocking))) < node_count:
        return ""
    # `nearest` already says what to ask for; the other obstacles have remedies of their own.
    reasons = [
        o.detail if nearest and o.predicate in _REMEDIES else f"{o.detail}; {o.remedy}"
        for o in blocking
    ]
    return "no node can take it: " + "; ".join(filter(None, [*reasons, nearest]))


def _why_activated(
    obstacles: Collection[Obstacle],
    node_count: int,
    jobs_ahead: int,
    hold: Hold | None,
    overtaken_until: datetime | None,
) -> str:
    parts = []
    if hold is not None:
        parts.append(
            f"is held for {hold.node}, which holds its files or soon will, "
            f"until {hold.until:%H:%M:%S} UTC at most"
        )
    if jobs_ahead:
        jobs = (
            "1 job of its user goes" if jobs_ahead == 1 else f"{jobs_ahead:,} jobs of its user go"
        )
        parts.append(f"{jobs} before it by priority and age")
    elif hold is None and overtaken_until is not None:
        parts.append("is next of its user's jobs by priority and age")
    elif hold is None:
        parts.append("is next of its user's jobs: a pilot with a free slot gets it when it asks")
    if hold is None and overtaken_until is not None:
        parts.append(
            f"jobs that fit a node better may overtake it until {overtaken_until:%H:%M:%S} UTC"
        )
    if obstacles:
        who = ", ".join(f"{o.predicate} excludes {o.excluded_nodes}" for o in obstacles)
        parts.append(f"only some of the {node_count} nodes can take it: {who}")
    return "runnable; " + "; ".join(parts)
