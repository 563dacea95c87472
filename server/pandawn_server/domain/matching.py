"""Which queued job goes to the node that asks: eligibility, priority, bytes, hold, age, and the explanation.

Pure functions over plain values, used unchanged by the dispatcher, by `pandawn why`, and by the
simulator. `docs/brokerage.md` explains the rules with an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from pandawn_server.domain.jobs import Requirements

MOVE_BYTES_PER_S = 60e6
"""Assumed speed of a transfer to a node, in bytes a second, to weigh a wait against a move:
about half of a 1 Gb/s link, which is what a worker node of a Tier 3 gets when others read too."""


class Locality(Enum):
    """Whether the catalog could answer when a job was matched."""

    KNOWN = "known"
    UNKNOWN = "unknown"


class MatchRule(Enum):
    """The rule that made a job win."""

    ONLY_CANDIDATE = "only_candidate"
    PRIORITY = "priority"
    LOCAL_BYTES = "local_bytes"
    AGE = "age"
    HELD = "held"
    SPREAD = "spread"
    NEIGHBOUR = "neighbour"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A runnable job as matching sees it; `since` is when it became runnable."""

    job_id: int
    priority: int
    input_bytes: int
    since: datetime
    requirements: Requirements


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters of a queue that matching obeys."""

    priority_band: int
    locality_wait: timedelta
    max_input_bytes: int


@dataclass(frozen=True, slots=True)
class Share:
    """What a node holds of a job's input."""

    node: str
    local_bytes: int


@dataclass(frozen=True, slots=True)
class Shares:
    """What nodes hold of the inputs of the candidates, in bytes by job; jobs held by nobody are absent.

    `here` is the asking node; `best_elsewhere` the live node that holds most, with a free slot or
    not. `known` is False when the catalog did not answer; then both are empty.
    """

    known: bool
    here: Mapping[int, int]
    best_elsewhere: Mapping[int, Share]


NOTHING_KNOWN = Shares(known=False, here={}, best_elsewhere={})
"""The shares when the catalog does not answer."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A requirement that an offer does not meet: its name, what is asked and what there is."""

    predicate: str
    asked: int
    offered: int


UNLIMITED = 2**63
"""What an offer has of something that it does not name; more than any job can ask."""


class Needs(NamedTuple):
    """What a job asks of a node, or a node offers, in numbers that compare; sizes in bytes."""

    memory_bytes: int
    cores: int
    disk_bytes: int
    wall_s: int


def needs_of(requirements: Requirements, input_bytes: int) -> Needs:
    """What a job asks; 0 where it asks for nothing."""
    wall_time = requirements.wall_time
    return Needs(
        requirements.memory_bytes or 0,
        requirements.cores or 0,
        # Inputs are copied or linked into the work directory: they need room there as well.
        max(requirements.disk_bytes or 0, input_bytes),
        0 if wall_time is None else int(wall_time.total_seconds()),
    )


def offered(offer: Requirements) -> Needs:
    """What a node offers; `UNLIMITED` where it names nothing: that is not compared."""
    wall_time = offer.wall_time
    return Needs(
        UNLIMITED if offer.memory_bytes is None else offer.memory_bytes,
        UNLIMITED if offer.cores is None else offer.cores,
        UNLIMITED if offer.disk_bytes is None else offer.disk_bytes,
        UNLIMITED if wall_time is None else int(wall_time.total_seconds()),
    )


def fits(needs: Needs, offer: Needs) -> bool:
    """Whether a node offers all that a job asks."""
    return (
        needs.memory_bytes <= offer.memory_bytes
        and needs.cores <= offer.cores
        and needs.disk_bytes <= offer.disk_bytes
        and needs.wall_s <= offer.wall_s
    )


def too_large(input_bytes: int, rules: Rules) -> bool:
    """Whether the inputs of a job exceed the limit of its queue, 0 being none."""
    return 0 < rules.max_input_bytes < input_bytes


_PREDICATES = ("MEMORY", "CORES", "DISK", "WALL_TIME")


def unmet(job: Candidate, offer: Requirements, rules: Rules) -> list[Failed]:
    """Each predicate that keeps a job from a node. What the offer leaves out is not compared."""
    asked = needs_of(job.requirements, job.input_bytes)
    found = [
        Failed(predicate, need, there)
        for predicate, need, there in zip(_PREDICATES, asked, offered(offer), strict=True)
        if need > there
    ]
    if too_large(job.input_bytes, rules):
        found.append(Failed("QUEUE_INPUT_LIMIT", job.input_bytes, rules.max_input_bytes))
    return found


class Match(NamedTuple):
    """A job chosen for a node, with its explanation.

    `candidates` jobs were compared, `held` of them were kept back for nodes with more of their
    bytes; `waited` is how long the job had been runnable.
    """

    job_id: int
    locality: Locality
    rule: MatchRule
    input_bytes: int
    local_bytes: int
    candidates: int
    held: int
    waited: timedelta

    @property
    def moved_bytes(self) -> int:
        """Bytes left to move to the node."""
        return self.input_bytes - self.local_bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """A job kept back for a node that holds more of it, until a time at most."""

    node: str
    until: datetime


def hold(
    job: Candidate, here_bytes: int, best: Share | None, rules: Rules, now: datetime
) -> Hold | None:
    """Whether a job is kept for another live node, and until when at most.

    Affinity is a bounded delay: the bound counts from when the job became runnable, so asking
    again does not prolong it.
    """
    # Without the first: a job that another server's clock made runnable a second from now is held.
    if not rules.locality_wait or best is None or best.local_bytes <= here_bytes:
        return None
    until = job.since + rules.locality_wait
    return Hold(best.node, until) if now < until else None


def band(priority: int, width: int) -> int:
    """The priority band of a job: locality decides inside a band, never across."""
    return priority // width


OVERTAKEN_S = 600.0
"""For how many seconds after its turn by age a job may at least be overtaken by jobs that fit a node
better: 10 min, in which a node of 8 slots with jobs of 40 min asks twice."""

PATIENT_AFTER_S = 1800.0
"""From how long a wait on, in seconds, a queue counts as backlogged: 30 min."""

BACKLOG_STRETCH = 1.0
"""By how much of its wait beyond `PATIENT_AFTER_S` a job of a backlogged queue may be overtaken."""

PUT_OFF = 0.3
"""Part of its wait for which a job that was overtaken for that long is left to the nodes that hold its files."""

WAIT_PER_MOVE = 20.0
"""For how many seconds a job may be held to spare one second of moving its files: the wait costs one user a
little, the move loads the storage and the network of all."""


def overtaken_s(waited_s: float, locality_wait_s: float) -> float:
    """For how many seconds others may go before a job whose turn by age came after `waited_s`.

    In a short queue that is the queue's `locality_wait`, ten minutes at least. Where everybody waits
    for hours it is in proportion: the order by files saves most there, and costs least.
    """
    return max(locality_wait_s, OVERTAKEN_S, BACKLOG_STRETCH * (waited_s - PATIENT_AFTER_S))


def put_off_s(waited_s: float, locality_wait_s: float) -> float:
    """For how many seconds a job that is next is left to the nodes that hold its files, where it goes first.

    Without that a job would be overtaken for hours and then be moved after all; with it the wait, which
    is behind it by now, was not for nothing. After it the job goes to whoever asks. A queue whose `locality_wait`
    is 0 delays no job for its files.
    """
    return max(locality_wait_s, PUT_OFF * waited_s) if locality_wait_s else 0.0


def held_s(spared_bytes: int, locality_wait_s: float) -> float:
    """For how many seconds a job is kept from a free slot to spare the move of so many bytes."""
    return min(locality_wait_s, WAIT_PER_MOVE * spared_bytes / MOVE_BYTES_PER_S)


def choose(
    candidates: Sequence[Candidate],
    offer: Requirements,
    shares: Shares,
    rules: Rules,
    now: datetime,
    count: int,
) -> list[Match]:
    """Picks up to `count` jobs for one node, best first.

    In order: eligible; highest band; not held for another node; fewest bytes left to move among
    jobs that the node holds a part of (or that read nothing); files nowhere before files elsewhere;
    runnable for longest. When all jobs of a band are held, those
    are given whose remaining wait would be longer than the move: a free slot does not idle for less.
    """
    eligible = [job for job in candidates if not unmet(job, offer, rules)]
    holds = {
        job.job_id: held
        for job in eligible
        if (
            held := hold(
                job,
                shares.here.get(job.job_id, 0),
                shares.best_elsewhere.get(job.job_id),
                rules,
                now,
            )
        )
    }

    def order(job: Candidate) -> tuple[int, bool, int, bool, datetime, int]:
        local = shares.here.get(job.job_id, 0)
        # Bytes to move rank only jobs that the node holds a part of. Among the others they would
        # rank small jobs before big ones, and big ones would starve; there age decides.
        has_affinity = local > 0 or job.input_bytes == 0
        return (
            -band(job.priority, rules.priority_band),
            not has_affinity,
            job.input_bytes - local if has_affinity else 0,
            job.job_id in shares.best_elsewhere,
            job.since,
            job.job_id,
        )

    ranked = sorted(eligible, key=order)
    chosen: list[Candidate] = []
    for in_band in _bands(ranked, rules.priority_band):
        free = [job for job in in_band if job.job_id not in holds]
        kept = [
            job
            for job in in_band
            if job.job_id in holds and _wait_exceeds_move(job, holds[job.job_id], shares, now)
        ]
        chosen += [*free, *kept][: count - len(chosen)]
        if len(chosen) == count:
            break
    locality = Locality.KNOWN if shares.known else Locality.UNKNOWN
    return [
        Match(
            job_id=job.job_id,
            locality=locality,
            rule=_deciding_rule(job, eligible, shares, rules),
            input_bytes=job.input_bytes,
            local_bytes=shares.here.get(job.job_id, 0),
            candidates=len(eligible),
            held=len(holds),
            waited=max(now - job.since, timedelta(0)),
        )
        for job in chosen
    ]


def _bands(ranked: Sequence[Candidate], width: int) -> list[list[Candidate]]:
    bands: dict[int, list[Candidate]] = {}
    for job in ranked:
        bands.setdefault(band(job.priority, width), []).append(job)
    return list(bands.values())


def _wait_exceeds_move(job: Candidate, held: Hold, shares: Shares, now: datetime) -> bool:
    missing = job.input_bytes - shares.here.get(job.job_id, 0)
    return (held.until - now).total_seconds() > missing / MOVE_BYTES_PER_S


def _deciding_rule(
    job: Candidate, eligible: Sequence[Candidate], shares: Shares, rules: Rules
) -> MatchRule:
    rivals = [other for other in eligible if other.job_id != job.job_id]
    if not rivals:
        return MatchRule.ONLY_CANDIDATE
    mine = band(job.priority, rules.priority_band)
    peers = [other for other in rivals if band(other.priority, rules.priority_band) == mine]
    if not peers:
        return MatchRule.PRIORITY
    missing = job.input_bytes - shares.here.get(job.job_id, 0)
    if shares.here.get(job.job_id) and any(
        other.input_bytes - shares.here.get(other.job_id, 0) > missing for other in peers
    ):
        return MatchRule.LOCAL_BYTES
    return MatchRule.AGE


def sentence(match: Match, node: str) -> str:
    """The explanation of a match for people."""
    why = {
        MatchRule.ONLY_CANDIDATE: "no other job was eligible",
        MatchRule.PRIORITY: "it had the highest priority",
        MatchRule.LOCAL_BYTES: "it left the fewest bytes to move",
        MatchRule.AGE: "it had waited longest among equals",
        MatchRule.HELD: "it was kept for this node, which holds most of it or soon will",
        MatchRule.SPREAD: "the nodes that hold its files have no slot for it in time",
        MatchRule.NEIGHBOUR: "it reads on where another job of its task began here",
    }[match.rule]
    if match.locality is Locality.UNKNOWN:
        where = "the file catalog did not answer, so what the node held is not known"
    elif not match.input_bytes:
        where = "it reads no input files"
    else:
        share = match.local_bytes / match.input_bytes
        where = f"the node held {share:.0%} of its {match.input_bytes:,} input bytes"
    compared = f"{match.candidates} job{'s' if match.candidates != 1 else ''} compared"
    held = f", {match.held} held for other nodes" if match.held else ""
    waited = f"runnable for {match.waited.total_seconds():.1f} s"
    return f"given to {node} because {why}; {where} ({compared}{held}; {waited})"
