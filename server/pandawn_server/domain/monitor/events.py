"""What happened, for people and pages: one value for each line of the event stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Event(NamedTuple):
    """Something that happened. `kind` is UPPER_SNAKE; 0 and '' stand for *not concerned*."""

    time: datetime
    kind: str
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
    """An event with its place in the stream."""

    event_id: int
    event: Event
