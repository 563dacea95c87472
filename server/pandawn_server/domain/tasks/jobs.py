"""Jobs: their states, the table of transitions, and the errors of attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from pandawn_server.domain.errors import NotFoundError


class JobState(Enum):
    """State of a job. The names are PanDA's; its `defined`, `assigned` and `transferring` are not used yet."""

    WAITING = "waiting"
    ACTIVATED = "activated"
    SENT = "sent"
    RUNNING = "running"
    HOLDING = "holding"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = JobState

_AFTER_AN_ATTEMPT = frozenset({_S.ACTIVATED, _S.WAITING, _S.FINISHED, _S.FAILED, _S.CANCELLED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # A waiting job fails when its build job fails.
    _S.WAITING: frozenset({_S.ACTIVATED, _S.FAILED, _S.CANCELLED}),
    # A runnable job waits again when a limit of its user is lowered.
    _S.ACTIVATED: frozenset({_S.SENT, _S.CANCELLED, _S.WAITING}),
    # A leased job returns to ACTIVATED for a new attempt, or to WAITING for the pause before it. A short job may
    # report before its first heartbeat, so SENT and RUNNING reach the final states directly.
    _S.SENT: frozenset({_S.RUNNING, _S.HOLDING}) | _AFTER_AN_ATTEMPT,
    _S.RUNNING: frozenset({_S.HOLDING}) | _AFTER_AN_ATTEMPT,
    _S.HOLDING: _AFTER_AN_ATTEMPT,
    _S.FINISHED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""All transitions of jobs: the states that may follow each state."""

FINAL_STATES = frozenset(state for state, after in TRANSITIONS.items() if not after)
"""States that a job never leaves."""

LEASED_STATES = frozenset({_S.SENT, _S.RUNNING, _S.HOLDING})
"""States in which exactly one live lease exists."""

QUEUED_STATES = frozenset({_S.WAITING, _S.ACTIVATED})
"""States in which no pilot has the job: it can be cancelled at once."""


def states_before(state: JobState) -> frozenset[JobState]:
    """Returns the states from which a job may move to `state`."""
    return frozenset(before for before, after in TRANSITIONS.items() if state in after)


def check_step(before: Iterable[JobState], after: JobState) -> None:
    """Raises `ValueError` unless a job may move from each of `before` to `after`."""
    for state in before:
        if after not in TRANSITIONS[state]:
            raise ValueError(f"a job cannot move from {state.value} to {after.value}")


class JobKind(Enum):
    """What a job does for its task."""

    BUILD = "build"
    RUN = "run"


class Phase(Enum):
    """What a pilot is doing for a job."""

    STAGE_IN = "stage_in"
    PAYLOAD = "payload"
    STAGE_OUT = "stage_out"


def state_in_phase(current: JobState, phase: Phase) -> JobState:
    """Returns the state of a leased job whose pilot reports `phase`; a HOLDING job stays HOLDING."""
    if phase is Phase.STAGE_OUT or current is _S.HOLDING:
        return _S.HOLDING
    return _S.RUNNING


class ErrorComponent(Enum):
    """The part of the system that an error comes from."""

    PILOT = "pilot"
    PAYLOAD = "payload"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt or a job failed; `code` follows PanDA's numbering where it has one."""

    component: ErrorComponent
    code: int
    reason: str
    text: str


def lost_heartbeat(phase: Phase | None) -> JobError:
    """Returns the error of an expired lease; it names the phase, since each phase suggests another cause.

    The code is PanDA's jobDispatcherErrorCode for a lost heartbeat (100), or for a job that was
    sent but never started (102).
    """
    if phase is None:
        return JobError(
            ErrorComponent.SERVER,
            102,
            "LEASE_LAPSED_BEFORE_START",
            "the pilot acquired the job but sent no heartbeat: it died, or its node lost the network",
        )
    return JobError(
        ErrorComponent.SERVER,
        100,
        f"LEASE_LAPSED_IN_{phase.name}",
        f"lost heartbeat: the pilot sent none during {phase.value.replace('_', '-')}: "
        "it was killed, or its node died or lost the network",
    )


def not_acknowledged() -> JobError:
    """Returns the error of a lease that its pilot never acknowledged: the job lost only some seconds."""
    return JobError(
        ErrorComponent.SERVER,
        102,
        "HAND_OUT_NOT_ACKNOWLEDGED",
        "the pilot did not acknowledge the job: the response was lost, or the pilot ended at that moment",
    )


def pilot_ended() -> JobError:
    """Returns the error of a job whose pilot deregistered without reporting it."""
    return JobError(
        ErrorComponent.PILOT, 1200, "PILOT_ENDED", "the pilot ended while it still had the job"
    )


def upstream_failed(job_id: int) -> JobError:
    """Returns the error of a job whose build job failed (PanDA: 100, upstream job failed)."""
    return JobError(
        ErrorComponent.SERVER,
        100,
        "UPSTREAM_FAILED",
        f"the build job {job_id} of the task failed; fix the cause, then retry the task",
    )


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a job requires of its node; None requires nothing."""

    memory_bytes: int | None = None
    cores: int | None = None
    disk_bytes: int | None = None
    wall_time: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """Resources that a job used, as its pilot measured them."""

    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    work_dir_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """The current state of a job, without its files.

    `failures` counts the attempts that count against `max_attempts`, `losses` those that ended through no fault of the
    job. `attempt` numbers all attempts, so that no two leases share a number. A waiting job with a `retry_time` is
    retried then, and not on the nodes `avoided` while there are other nodes. `retry_job_id` is the replacing job.
    `node` is the node of the current or last attempt. `throttled`: it waits only because its user has reached a limit
    on the queue. `labels` are its task's, where the caller requested them.
    """

    job_id: int
    task_id: int
    index: int
    kind: JobKind
    state: JobState
    user: str
    queue: str
    priority: int
    attempt: int
    failures: int
    max_attempts: int
    input_bytes: int
    create_time: datetime
    state_time: datetime
    requirements: Requirements = field(default_factory=Requirements)
    node: str = ""
    phase: Phase | None = None
    bytes_from_cache: int = 0
    error: JobError | None = None
    parent_job_id: int | None = None
    retry_job_id: int | None = None
    cancel_requested: bool = False
    throttled: bool = False
    losses: int = 0
    retry_time: datetime | None = None
    avoided: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list, and in what order; an empty field is any."""

    task_id: int = 0
    states: tuple[JobState, ...] = ()
    user: str = ""
    queue: str = ""
    node: str = ""
    newest_first: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobCount:
    """Jobs of a user in a state on a queue."""

    queue: str
    state: JobState
    user: str
    count: int

    @property
    def key(self) -> tuple[str, str, str]:
        """Queue, state and user: the order of pages."""
        return (self.queue, self.state.value, self.user)


def job_not_found(job_id: int) -> NotFoundError:
    """Returns the error for a job that does not exist."""
    return NotFoundError(
        "JOB_NOT_FOUND",
        f"there is no job {job_id}; `pandawn jobs` lists them",
        metadata={"job_id": str(job_id)},
    )
