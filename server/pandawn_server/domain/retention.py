"""How long data is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

ANSWERS_KEPT = timedelta(days=7)
"""How long a repeated submission gets the stored answer."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Ages at which data is deleted: for tasks since their end, else since creation or the last contact."""

    tasks: timedelta
    events: timedelta
    audit: timedelta
    sandboxes: timedelta
    pilots: timedelta
    nodes: timedelta

    def by_kind(self) -> Mapping[str, timedelta]:
        """The ages by kind of data, in the order of deletion: tasks before sandboxes, which they need."""
        return {
            "events": self.events,
            "audit lines": self.audit,
            "answers": ANSWERS_KEPT,
            "tasks": self.tasks,
            "sandboxes": self.sandboxes,
            "pilots": self.pilots,
            "nodes": self.nodes,
        }
