"""Findings of an import: the outcome for one field of one queue."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """Outcome for a field."""

    MAPPED = "mapped"
    UNSET = "unset"
    IGNORED = "ignored"
    UNKNOWN = "unknown"
    WRONG = "wrong"
    FATAL = "left as it is"


@dataclass(frozen=True, slots=True)
class Finding:
    """One field: its outcome, its parameter (if any), and a note.

    UNSET: the field unsets the parameter. WRONG: the parameter is not changed. FATAL: the queue cannot
    be read without this field, and is not changed at all.
    """

    queue: str
    field: str
    outcome: Outcome
    parameter: str = ""
    note: str = ""
