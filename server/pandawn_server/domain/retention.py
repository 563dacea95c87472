"""How long things are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

ANSWERS_KEPT = timedelta(days=7)
"""How long the answer to a submission is repeated to a client that asks again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Ages at which things are deleted: tasks since their end, the others since they were made or last heard of."""

    tasks: timedelta
    events: timedelta
    audit: timedelta
    sandboxes: timedelta
    pilots: timedelta
    nodes: timedelta

    def by_kind(self) -> Mapping[str, timedelta]:
        """The ages by the names of what is deleted, in the order in which it is: tasks need their sandboxes."""
        return {
            "events": self.events,
            "audit lines": self.audit,
            "answers": ANSWERS_KEPT,
            "tasks": self.tasks,
            "sandboxes": self.sandboxes,
            "pilots": self.pilots,
            "nodes": self.nodes,
        }
