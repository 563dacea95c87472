"""The configuration: all documents of one revision, and the queues that result from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pandawn_server.domain.queues.layers import (
    Document,
    DocumentKey,
    DocumentKind,
    Layers,
    Override,
    layers_of,
    next_expiry,
)
from pandawn_server.domain.queues.queues import Queue

Overrides = Mapping[str, tuple[Override, ...]]
"""Overrides by queue, including those that have expired but whose expiry is not recorded yet."""


@dataclass(slots=True)
class Configuration:
    """All documents and overrides of one revision. Immutable: a change makes a new one."""

    revision: int
    documents: Mapping[DocumentKey, Document]
    overrides: Overrides
    # Effective queues, and when each has to be computed again.
    _joined: dict[str, tuple[Queue, datetime | None]] = field(default_factory=dict)
    _names: list[str] | None = None

    def layers(self, name: str, now: datetime) -> Layers | None:
        """Returns the layers of a queue; None if there is no such queue."""
        return layers_of(name, self.documents, self.overrides.get(name, ()), now)

    def queue(self, name: str, now: datetime) -> Queue | None:
        """Returns a queue with its effective parameters at `now`, so without expired overrides; None if unknown."""
        joined = self._joined.get(name)
        if joined is not None and (joined[1] is None or joined[1] > now):
            return joined[0]
        layers = self.layers(name, now)
        if layers is None:
            return None
        queue = layers.queue
        self._joined[name] = queue, next_expiry(layers.overrides, now)
        return queue

    @property
    def names(self) -> list[str]:
        """Names of all queues, in order."""
        if self._names is None:
            self._names = sorted(
                key.name
                for key, document in self.documents.items()
                if key.kind is DocumentKind.QUEUE and not document.is_deleted
            )
        return self._names

    def queues(self, now: datetime) -> list[Queue]:
        """Returns all queues, by name."""
        return [queue for name in self.names if (queue := self.queue(name, now)) is not None]

    def expired(self, now: datetime) -> bool:
        """Whether an override has expired whose expiry is not recorded yet."""
        return any(o.expire_time <= now for mine in self.overrides.values() for o in mine)
