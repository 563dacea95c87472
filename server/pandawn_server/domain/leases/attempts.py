"""Attempts at a job: how one begins, how it ends, and what is stored about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.tasks.jobs import JobError, JobState, Phase, ResourceUse


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """An attempt that starts, with the explanation of its match and the revision of its queue."""

    job_id: int
    attempt: int
    task_id: int
    pilot_id: str
    key: NodeKey
    lease_token: str
    match: Match
    queue_revision: int = 0


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended.

    `outcome` is FINISHED, FAILED, CANCELLED, or ACTIVATED if the job was given back. If the pilot
    itself reported the end, `reported_state` is the state of the job after the report.
    """

    job_id: int
    attempt: int
    outcome: JobState
    reported_state: JobState | None = None
    exit_code: int | None = None
    error: JobError | None = None
    use: ResourceUse = field(default_factory=ResourceUse)
    input_bytes: int = 0
    bytes_from_cache: int = 0
    phase_times: dict[Phase, timedelta] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt as stored."""

    job_id: int
    attempt: int
    pilot_id: str
    node: str
    lease_token: str
    start_time: datetime
    end_time: datetime | None
    outcome: JobState | None
    reported_state: JobState | None
    exit_code: int | None
    error: JobError | None
    match: Match
    use: ResourceUse
    input_bytes: int
    bytes_from_cache: int
    phase_times: dict[Phase, timedelta]
    queue_revision: int


class Locality(Enum):
    """Whether the catalog answered when a job was matched."""

    KNOWN = "known"
    UNKNOWN = "unknown"


class MatchRule(Enum):
    """The rule by which a job was chosen."""

    ONLY_CANDIDATE = "only_candidate"
    PRIORITY = "priority"
    LOCAL_BYTES = "local_bytes"
    AGE = "age"
    HELD = "held"
    SPREAD = "spread"
    NEIGHBOUR = "neighbour"
    FAIR_SHARE = "fair_share"


class Match(NamedTuple):
    """A job chosen for a node, with its explanation.

    `candidates` jobs were compared; `held` of them were held for nodes with more of their input
    bytes. `waited` is how long the job had been runnable.
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
        """Input bytes that must still be copied to the node."""
        return self.input_bytes - self.local_bytes
