"""Reads queues, documents and overrides."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pandawn_server.domain.queues.layers import (
    Document,
    DocumentKind,
    Level,
    Override,
    Place,
)
from pandawn_server.domain.queues.queues import Queue, queue_not_found
from pandawn_server.domain.queues.revisions import Author, Revision, in_order
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues import revisions
from pandawn_server.usecases.access.admission import queue_to_serve
from pandawn_server.usecases.context import Context

NOBODY = Author("", tool="pandawn-server")
"""The author of changes that the server makes itself."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of a parameter comes from; `revision` is the one that set it, None for a default."""

    place: Place
    revision: Revision | None


@dataclass(frozen=True, slots=True)
class SetOverride:
    """An override in effect, with its origin."""

    override: Override
    origin: Origin


def get_queue(context: Context, name: str) -> Queue:
    """Returns one queue. Raises `NotFoundError` (QUEUE_NOT_FOUND)."""
    return queue_to_serve(context, name)


def get_origins(context: Context, name: str) -> tuple[Queue, dict[str, Origin]]:
    """Returns one queue, and the origin of each parameter's value, in the order of the contract.

    Raises `NotFoundError` (QUEUE_NOT_FOUND).
    """
    with context.db.read() as tx:
        layers = context.config.refresh(tx).layers(name, context.clock())
        if layers is None:
            raise queue_not_found(name)
        places = layers.places()
        return layers.queue, dict(zip(places, _origins(tx, list(places.values())), strict=True))


def _origins(tx: Transaction, places: Sequence[Place]) -> list[Origin]:
    known: Mapping[int, Revision] = revisions.get_revisions(
        tx, {place.revision for place in places if place.level is not Level.DEFAULT}
    )
    return [Origin(place, known.get(place.revision)) for place in places]


def list_queues(context: Context, after: str, limit: int, site: str) -> list[Queue]:
    """Returns up to `limit` queues with names greater than `after`, by name; an empty `site` matches any."""
    now = context.clock()
    with context.db.read() as tx:
        config = context.config.current(tx)
    found: list[Queue] = []
    for name in config.names[bisect_right(config.names, after) :]:
        queue = config.queue(name, now)
        if queue is not None and site in ("", queue.site):
            found.append(queue)
            if len(found) == limit:
                break
    return found


def export_documents(
    context: Context, kinds: Collection[DocumentKind]
) -> tuple[int, list[Document]]:
    """Returns a revision and its documents of these kinds: clouds, sites, queues, each by name."""
    with context.db.read() as tx:
        config = context.config.refresh(tx)
    chosen = (
        document
        for key, document in config.documents.items()
        if key.kind in kinds and not document.is_deleted
    )
    return config.revision, sorted(chosen, key=lambda document: in_order(document.key))


def list_overrides(
    context: Context, after: tuple[str, str], limit: int, queue: str
) -> list[SetOverride]:
    """Returns up to `limit` overrides in effect after (queue, parameter), in that order."""
    now = context.clock()
    with context.db.read() as tx:
        config = context.config.refresh(tx)
        names = [queue] if queue else sorted(config.overrides)
        chosen = [
            override
            for name in names
            for override in sorted(config.overrides.get(name, ()), key=lambda o: o.parameter)
            if override.expire_time > now and (override.queue, override.parameter) > after
        ][:limit]
        places = [Place(Level.OVERRIDE, o.queue, o.revision, o.expire_time) for o in chosen]
        return [
            SetOverride(override, origin)
            for override, origin in zip(chosen, _origins(tx, places), strict=True)
        ]
