"""The rules of matching: eligibility, priority, bytes to move, hold, age, and the explanation of a match.

Pure functions over plain values. The dispatcher, `pandawn why` and the simulator all use them unchanged.
`docs/dispatch.md` explains the rules with an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from pandawn_server.domain.leases.attempts import Locality, Match, MatchRule
from pandawn_server.domain.tasks.jobs import Requirements

MOVE_BYTES_PER_S = 60e6
"""Assumed speed of a transfer to a node, in bytes per second, to weigh a wait against a transfer.
About half of a 1 Gb/s link: what a Tier 3 worker node gets when other nodes read too."""


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
    """The queue parameters that control matching."""

    priority_band: int
    locality_wait: timedelta
    max_input_bytes: int


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a job's input a node holds."""

    node: str
    local_bytes: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A requirement that an offer does not meet: its name, the amount asked and the amount offered."""

    predicate: str
    asked: int
    offered: int


UNLIMITED = 2**63
"""Stands for an amount that an offer does not name; more than any job can ask."""


class Needs(NamedTuple):
    """What a job needs, or what a node offers, as comparable numbers; sizes in bytes."""

    memory_bytes: int
    cores: int
    disk_bytes: int
    wall_s: int


def needs_of(requirements: Requirements, input_bytes: int) -> Needs:
    """What a job needs; 0 where it names no requirement."""
    wall_time = requirements.wall_time
    return Needs(
        requirements.memory_bytes or 0,
        requirements.cores or 0,
        # Inputs are copied or linked into the work directory, so they need disk there too.
        max(requirements.disk_bytes or 0, input_bytes),
        0 if wall_time is None else int(wall_time.total_seconds()),
    )


def offered(offer: Requirements) -> Needs:
    """What a node offers; `UNLIMITED` where it names nothing."""
    wall_time = offer.wall_time
    return Needs(
        UNLIMITED if offer.memory_bytes is None else offer.memory_bytes,
        UNLIMITED if offer.cores is None else offer.cores,
        UNLIMITED if offer.disk_bytes is None else offer.disk_bytes,
        UNLIMITED if wall_time is None else int(wall_time.total_seconds()),
    )


def fits(needs: Needs, offer: Needs) -> bool:
    """Whether an offer meets all needs."""
    return (
        needs.memory_bytes <= offer.memory_bytes
        and needs.cores <= offer.cores
        and needs.disk_bytes <= offer.disk_bytes
        and needs.wall_s <= offer.wall_s
    )


def too_large(input_bytes: int, rules: Rules) -> bool:
    """Whether a job's inputs exceed the queue's limit; a limit of 0 means none."""
    return 0 < rules.max_input_bytes < input_bytes


_PREDICATES = ("MEMORY", "CORES", "DISK", "WALL_TIME")


def unmet(job: Candidate, offer: Requirements, rules: Rules) -> list[Failed]:
    """The requirements that keep a job off a node. What the offer does not name is not compared."""
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
    """A job is held for `node`, which holds more of its input, until `until` at most."""

    node: str
    until: datetime


def band(priority: int, width: int) -> int:
    """The priority band of a job: locality reorders jobs within a band, never across bands."""
    return priority // width


OVERTAKEN_S = 600.0
"""Minimum time, in seconds after its turn by age, that jobs which fit a node better may overtake a job:
10 min, in which a node of 8 slots with jobs of 40 min polls twice."""

PATIENT_AFTER_S = 1800.0
"""A queue counts as backlogged when jobs wait longer than this, in seconds: 30 min."""

BACKLOG_STRETCH = 1.0
"""How long a job of a backlogged queue may be overtaken, as a factor of its wait beyond `PATIENT_AFTER_S`."""

PUT_OFF = 0.3
"""After that, how long a job stays reserved for the nodes that hold its files, as a factor of its wait."""

WAIT_PER_MOVE = 20.0
"""How many seconds a job may be held to save one second of transfer. A wait costs one user a little;
a transfer loads the storage and the network that all share."""


def overtaken_s(waited_s: float, locality_wait_s: float) -> float:
    """How many seconds others may overtake a job whose turn by age came after `waited_s`.

    In a short queue: the queue's `locality_wait`, but at least ten minutes. In a backlogged queue it grows
    with the wait, because there the order by files saves most and costs least.
    """
    return max(locality_wait_s, OVERTAKEN_S, BACKLOG_STRETCH * (waited_s - PATIENT_AFTER_S))


def put_off_s(waited_s: float, locality_wait_s: float) -> float:
    """How many more seconds an overdue job stays reserved for the nodes that hold its files, at their head.

    Without this, a job would be overtaken for hours and then be transferred after all; its wait would
    have gained nothing. Afterwards the next request gets it, whatever its node. A `locality_wait` of 0
    turns this off.
    """
    return max(locality_wait_s, PUT_OFF * waited_s) if locality_wait_s else 0.0


def held_s(spared_bytes: int, locality_wait_s: float) -> float:
    """How many seconds to hold a job back from a free slot, to save the transfer of `spared_bytes`."""
    return min(locality_wait_s, WAIT_PER_MOVE * spared_bytes / MOVE_BYTES_PER_S)


_WHY = {
    MatchRule.ONLY_CANDIDATE: "no other job was eligible",
    MatchRule.PRIORITY: "it had the highest priority",
    MatchRule.LOCAL_BYTES: "it left the fewest bytes to move",
    MatchRule.AGE: "it had waited longest among equals",
    MatchRule.HELD: "it was held for this node, which holds most of it or soon will",
    MatchRule.SPREAD: "the nodes that hold its files had no free slot in time",
    MatchRule.FAIR_SHARE: "its user had received least of the users with jobs of its priority",
    MatchRule.NEIGHBOUR: "another job of its task that reads neighbouring files started here",
}


def sentence(match: Match, node: str) -> str:
    """Explains a match to people, in one sentence."""
    why = _WHY[match.rule]
    if match.locality is Locality.UNKNOWN:
        # The catalog has no entry for a node without a cache, nor for any node while it is down.
        where = (
            "what the node held is unknown: the file catalog did not answer, or has no entry for it"
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
