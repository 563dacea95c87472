"""Events, for people and web pages: one value for each line of the event stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class EventKind(StrEnum):
    """The kinds of events. `docs/api.md` lists them with the texts below."""

    TASK_SUBMITTED = "TASK_SUBMITTED"
    """a user submitted a task"""
    TASK_RETRIED = "TASK_RETRIED"
    """failed or cancelled jobs of a task are retried, as new jobs"""
    TASK_BUILT = "TASK_BUILT"
    """the build job made the task's library, and the run jobs can start"""
    TASK_BUILD_ENDED = "TASK_BUILD_ENDED"
    """the build job failed or was cancelled, and the run jobs ended with it"""
    TASK_FINISHED = "TASK_FINISHED"
    """all jobs of a task have finished"""
    TASK_FAILED = "TASK_FAILED"
    """all jobs of a task have ended, and some failed"""
    TASK_CANCELLED = "TASK_CANCELLED"
    """all jobs of a task have ended, and some were cancelled"""
    JOB_SENT = "JOB_SENT"
    """a job was sent to a pilot; the text explains why to this one"""
    JOB_RELEASED = "JOB_RELEASED"
    """a job was given back before it started"""
    JOB_RETRIED = "JOB_RETRIED"
    """an attempt failed or was lost, and the job is retried"""
    JOB_FINISHED = "JOB_FINISHED"
    """a job finished"""
    JOB_FAILED = "JOB_FAILED"
    """a job failed for good"""
    JOB_CANCEL_REQUESTED = "JOB_CANCEL_REQUESTED"
    """a running job is cancelled; its pilot ends it at its next contact"""
    JOB_CANCELLED = "JOB_CANCELLED"
    """a job was cancelled"""
    PILOT_REGISTERED = "PILOT_REGISTERED"
    """a pilot registered"""
    PILOT_REFUSED = "PILOT_REFUSED"
    """a pilot was refused; repeated refusals of a node are reported only now and then"""
    PILOT_ENDED = "PILOT_ENDED"
    """a pilot deregistered"""
    PILOT_LOST = "PILOT_LOST"
    """a pilot had no contact for too long"""
    NODE_SUSPENDED = "NODE_SUSPENDED"
    """a node gets no jobs: too many failed there, or an operator suspended it"""
    NODE_DRAINED = "NODE_DRAINED"
    """an operator drained a node: it gets no jobs, and its pilots end"""
    NODE_RESUMED = "NODE_RESUMED"
    """a node gets jobs again"""
    NODE_REMOVED = "NODE_REMOVED"
    """an operator removed a node"""
    QUEUE_APPLIED = "QUEUE_APPLIED"
    """the parameters of a queue changed"""
    ACCESS_GRANTED = "ACCESS_GRANTED"
    """an entry was added to an access list"""
    ACCESS_REVOKED = "ACCESS_REVOKED"
    """an entry was removed from an access list"""


class Event(NamedTuple):
    """An event. 0 and '' mean that it does not concern such an object."""

    time: datetime
    kind: EventKind
    text: str
    task_id: int = 0
    job_id: int = 0
    attempt: int = 0
    queue: str = ""
    node: str = ""
    pilot_id: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """An event with its number in the stream."""

    event_id: int
    event: Event
