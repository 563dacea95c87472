"""Which queued job goes to the node that asks: eligibility, priority, bytes, hold, age, and the explanation.

Pure functions over plain values, used unchanged by the dispatcher, by `pandawn why`, and by the
simulator. `docs/dispatch.md` explains the rules with an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from pandawn_server.domain.leases.attempts import Locality, Match, MatchRule
from pandawn_server.domain.tasks.jobs import Requirements

MOVE_BYTES_PER_S = 60e6
"""Assumed speed of a transfer to a node, in bytes a second, to weigh a wait against a move:
about half of a 1 Gb/s link, which is what a worker node of a Tier 3 gets when others read too."""


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


@dataclass(frozen=True, slots=True)
class Hold:
    """A job kept back for a node that holds more of it, until a time at most."""

    node: str
    until: datetime


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


_WHY = {
    MatchRule.ONLY_CANDIDATE: "no other job was eligible",
    MatchRule.PRIORITY: "it had the highest priority",
    MatchRule.LOCAL_BYTES: "it left the fewest bytes to move",
    MatchRule.AGE: "it had waited longest among equals",
    MatchRule.HELD: "it was kept for this node, which holds most of it or soon will",
    MatchRule.SPREAD: "the nodes that hold its files have no slot for it in time",
    MatchRule.FAIR_SHARE: "of the users with jobs of its priority its user had been given least",
    MatchRule.NEIGHBOUR: "it reads on where another job of its task began here",
}


def sentence(match: Match, node: str) -> str:
    """The explanation of a match for people."""
    why = _WHY[match.rule]
    if match.locality is Locality.UNKNOWN:
        # Of a node without a cache the catalog never hears; of others not while it is away.
        where = (
            "what the node held is not known: the file catalog did not answer, or had no word of it"
        )
    elif not match.input_bytes:
        where = "it reads no input files"
    else:
        share = match.local_bytes / match.input_bytes
        where = f"the node held {share:.0%} of its {match.input_bytes:,} input bytes"
    compared = f"{match.candidates} job{'s' if match.candidates != 1 else ''} compared"
    held = f", {match.held} held for other nodes" if match.held else ""
    waited = f"runnable for {match.waited.total_seconds():.1f} s"
    return f"given to {node} because {why}; {where} ({compared}{held}; {waited})"
