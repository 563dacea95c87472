"""How a queue is joined from layers: defaults < cloud < site < queue < temporary override."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from pandawn_server.domain.queues.queues import (
    NOTHING_SET,
    SETTING_NAMES,
    Queue,
    QueueSettings,
    Value,
    effective_queue,
)


class DocumentKind(Enum):
    """What a document describes. Only that of a queue makes a queue exist."""

    CLOUD = "cloud"
    SITE = "site"
    QUEUE = "queue"


class Level(Enum):
    """Where a value comes from; a later one goes before an earlier one."""

    DEFAULT = "default"
    CLOUD = "cloud"
    SITE = "site"
    QUEUE = "queue"
    OVERRIDE = "override"


NOT_IN: Mapping[Level, Collection[str]] = {
    Level.CLOUD: ("site", "cloud"),
    Level.SITE: ("site",),
    Level.QUEUE: (),
    # Which layers there are depends on these: that shall not change by the clock.
    Level.OVERRIDE: ("site", "cloud"),
}
"""Parameters that a level may not set."""


class DocumentKey(NamedTuple):
    """Names a document."""

    kind: DocumentKind
    name: str


@dataclass(frozen=True, slots=True)
class Document:
    """The parameters of a cloud, a site or a queue as somebody set them.

    `since` has the revision that set each of them, `revision` the last that changed any. A deleted
    document stays as one that sets nothing: when it went is what its revision says. `override_revision`
    is the last revision that set, cleared or ended an override of the queue.
    """

    key: DocumentKey
    settings: QueueSettings
    since: Mapping[str, int] = field(hash=False)
    etag: str
    revision: int
    update_time: datetime
    is_deleted: bool = False
    override_revision: int = 0


@dataclass(frozen=True, slots=True)
class Override:
    """One parameter of a queue that is set until `expire_time`, by a revision."""

    queue: str
    parameter: str
    value: Value
    expire_time: datetime
    revision: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the value of a parameter was set: the name of the document's cloud, site or queue, and the revision."""

    level: Level
    name: str = ""
    revision: int = 0
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Layers:
    """All that makes up one queue, the documents that exist or existed. `overrides` are those that count."""

    own: Document
    site: Document | None
    cloud: Document | None
    overrides: tuple[Override, ...]

    @property
    def settings(self) -> dict[str, Value]:
        """What is set, whoever set it."""
        values: dict[str, Value] = {}
        for document in (self.cloud, self.site, self.own):
            if document is not None:
                values.update(document.settings)
        values.update((override.parameter, override.value) for override in self.overrides)
        return values

    @property
    def revision(self) -> int:
        """The last revision that may have changed the queue.

        It never goes back: what takes a layer away is a revision of the queue, or of the layer.
        """
        below = [document.revision for document in (self.site, self.cloud) if document is not None]
        return max(self.own.revision, self.own.override_revision, *below, 0)

    @property
    def queue(self) -> Queue:
        """The queue with every parameter filled in."""
        own = self.own
        return effective_queue(
            own.key.name, self.settings, own.etag, own.update_time, self.revision
        )

    def places(self) -> dict[str, Place]:
        """Where each parameter comes from, in the order of the contract."""
        places = {name: Place(Level.DEFAULT) for name in SETTING_NAMES}
        for level, document in (
            (Level.CLOUD, self.cloud),
            (Level.SITE, self.site),
            (Level.QUEUE, self.own),
        ):
            if document is not None:
                for name in document.settings:
                    since = document.since.get(name, document.revision)
                    places[name] = Place(level, document.key.name, since)
        for override in self.overrides:
            places[override.parameter] = Place(
                Level.OVERRIDE, override.queue, override.revision, override.expire_time
            )
        return places


Documents = Mapping[DocumentKey, Document]


def layers_of(
    name: str, documents: Documents, overrides: Iterable[Override], now: datetime
) -> Layers | None:
    """The layers of a queue at a time; None if there is no such queue.

    Its site is what its own document says, or its own name; its cloud what its own document says, or
    that of its site.
    """
    own = documents.get(DocumentKey(DocumentKind.QUEUE, name))
    if own is None or own.is_deleted:
        return None
    site = documents.get(DocumentKey(DocumentKind.SITE, str(own.settings.get("site") or name)))
    of_site = NOTHING_SET if site is None else site.settings
    cloud_name = own.settings.get("cloud", of_site.get("cloud", ""))
    cloud = documents.get(DocumentKey(DocumentKind.CLOUD, str(cloud_name)))
    counting = tuple(override for override in overrides if override.expire_time > now)
    return Layers(own, site, cloud, counting)


def next_expiry(overrides: Iterable[Override], now: datetime) -> datetime | None:
    """When the first of those that count ends."""
    return min((o.expire_time for o in overrides if o.expire_time > now), default=None)
