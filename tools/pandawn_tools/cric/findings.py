"""What the import found in one field of one queue."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What became of a field."""

    MAPPED = "mapped"
    UNSET = "unset"
    IGNORED = "ignored"
    UNKNOWN = "unknown"
    WRONG = "wrong"
    FATAL = "left as it is"


@dataclass(frozen=True, slots=True)
class Finding:
    """One field: what became of it, the parameter it means (if any), and what there is to say.

    UNSET: it says that the parameter is not set. WRONG: the parameter stays as it is. FATAL: without
    this field the queue cannot be understood, and all of it stays as it is.
    """

    queue: str
    field: str
    outcome: Outcome
    parameter: str = ""
    note: str = ""
