"""The layers of a queue's parameters: defaults < cloud < site < queue < temporary override."""

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
    """What a document describes. A queue exists only if it has a document of its own."""

    CLOUD = "cloud"
    SITE = "site"
    QUEUE = "queue"


class Level(Enum):
    """Where a value comes from; a later level overrides an earlier one."""

    DEFAULT = "default"
    CLOUD = "cloud"
    SITE = "site"
    QUEUE = "queue"
    OVERRIDE = "override"


NOT_IN: Mapping[Level, Collection[str]] = {
    Level.CLOUD: ("site", "cloud"),
    Level.SITE: ("site",),
    Level.QUEUE: (),
    # These select the layers, which must not change by the clock.
    Level.OVERRIDE: ("site", "cloud"),
}
"""Parameters that a level may not set."""


class DocumentKey(NamedTuple):
    """Identifies a document."""

    kind: DocumentKind
    name: str


@dataclass(frozen=True, slots=True)
class Document:
    """The parameters that somebody set for a cloud, a site or a queue.

    `since` has the revision that set each of them, `revision` is the last that changed any. A deleted
    document is kept and sets nothing: its revision is the one that deleted it. `override_revision`
    is the last revision in which an override of the queue was set, cleared or expired.
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
    """The documents of one queue, including deleted ones, and its `overrides` in effect."""

    own: Document
    site: Document | None
    cloud: Document | None
    overrides: tuple[Override, ...]

    @property
    def settings(self) -> dict[str, Value]:
        """The parameters that any layer sets, with their effective values."""
        values: dict[str, Value] = {}
        for document in (self.cloud, self.site, self.own):
            if document is not None:
                values.update(document.settings)
        values.update((override.parameter, override.value) for override in self.overrides)
        return values

    @property
    def revision(self) -> int:
        """The last revision that may have changed the queue.

        It never decreases: removing a layer is a revision of the queue or of the layer.
        """
        below = [document.revision for document in (self.site, self.cloud) if document is not None]
        return max(self.own.revision, self.own.override_revision, *below, 0)

    @property
    def queue(self) -> Queue:
        """The queue with its effective parameters."""
        own = self.own
        return effective_queue(
            own.key.name, self.settings, own.etag, own.update_time, self.revision
        )

    def places(self) -> dict[str, Place]:
        """Returns where each parameter comes from, in the order of the contract."""
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
    """Returns the layers of a queue at `now`; None if there is no such queue.

    The queue's document gives its site, or else its own name is its site. Its cloud comes from its
    document, or else from the document of its site.
    """
    own = documents.get(DocumentKey(DocumentKind.QUEUE, name))
    if own is None or own.is_deleted:
        return None
    site = documents.get(DocumentKey(DocumentKind.SITE, str(own.settings.get("site") or name)))
    of_site = NOTHING_SET if site is None else site.settings
    cloud_name = own.settings.get("cloud", of_site.get("cloud", ""))
    cloud = documents.get(DocumentKey(DocumentKind.CLOUD, str(cloud_name)))
    in_effect = tuple(override for override in overrides if override.expire_time > now)
    return Layers(own, site, cloud, in_effect)


def next_expiry(overrides: Iterable[Override], now: datetime) -> datetime | None:
    """Returns when the first override in effect expires; None if there is none."""
    return min((o.expire_time for o in overrides if o.expire_time > now), default=None)
