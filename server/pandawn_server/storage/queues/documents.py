"""The current documents of the configuration, and overrides."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, true, update

from pandawn_server.domain.queues.layers import Document, DocumentKey, DocumentKind, Override
from pandawn_server.domain.queues.queues import QueueSettings
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues.schema import config_documents, config_overrides
from pandawn_server.storage.queues.settings import pack_settings, unpack_settings

_COLUMNS = (
    "kind",
    "name",
    "settings",
    "since",
    "etag",
    "revision",
    "override_revision",
    "update_time",
    "is_deleted",
)


def read_documents(tx: Transaction, after: int = 0) -> list[Document]:
    """Returns documents, including deleted ones, that changed or whose overrides changed after a revision."""
    table = config_documents
    condition: ColumnElement[bool] = true()
    if after:
        condition = (table.c.revision > after) | (table.c.override_revision > after)
    query = select(*(table.c[name] for name in _COLUMNS)).where(condition)
    return [
        Document(
            key=DocumentKey(DocumentKind(kind), name),
            settings=unpack_settings(settings),
            since=since,
            etag=etag,
            revision=revision,
            update_time=update_time,
            is_deleted=is_deleted,
            override_revision=override_revision,
        )
        for (
            kind,
            name,
            settings,
            since,
            etag,
            revision,
            override_revision,
            update_time,
            is_deleted,
        ) in tx.execute(query)
    ]


def write_documents(tx: Transaction, documents: Collection[Document]) -> None:
    """Stores documents; they replace those with the same keys. The caller has locked the head."""
    for kind in DocumentKind:
        names = [document.key.name for document in documents if document.key.kind is kind]
        if names:
            tx.execute(
                delete(config_documents).where(
                    config_documents.c.kind == kind.value,
                    among(tx, config_documents.c.name, names),
                )
            )
    insert_rows(
        tx,
        config_documents,
        _COLUMNS,
        (
            (
                document.key.kind.value,
                document.key.name,
                pack_settings(document.settings),
                dict(document.since),
                document.etag,
                document.revision,
                document.override_revision,
                document.update_time,
                document.is_deleted,
            )
            for document in documents
        ),
    )


def read_overrides(tx: Transaction, of: Collection[str] | None = None) -> list[Override]:
    """Returns the overrides of all queues, or of some, including expired ones."""
    query = select(config_overrides)
    if of is not None:
        if not of:
            return []
        query = query.where(among(tx, config_overrides.c.queue, of))
    return [
        Override(
            row["queue"],
            row["parameter"],
            unpack_settings(row["settings"])[row["parameter"]],
            row["expire_time"],
            row["revision"],
        )
        for row in tx.execute(query.order_by(config_overrides.c.parameter)).mappings()
        # A newer version may have set a parameter that this version does not know.
        if unpack_settings(row["settings"])
    ]


def write_overrides(tx: Transaction, overrides: Iterable[Override]) -> None:
    """Stores overrides; the caller has deleted earlier ones of the same parameters."""
    insert_rows(
        tx,
        config_overrides,
        ("queue", "parameter", "settings", "expire_time", "revision"),
        (
            (
                o.queue,
                o.parameter,
                pack_settings(QueueSettings(**{o.parameter: o.value})),
                o.expire_time,
                o.revision,
            )
            for o in overrides
        ),
    )


def delete_overrides(
    tx: Transaction, queue_names: Collection[str], parameters: Collection[str] | None = None
) -> None:
    """Deletes overrides of queues: all, or those of some parameters."""
    query = delete(config_overrides).where(among(tx, config_overrides.c.queue, queue_names))
    if parameters is not None:
        query = query.where(among(tx, config_overrides.c.parameter, parameters))
    tx.execute(query)


def delete_expired(tx: Transaction, now: datetime) -> None:
    """Deletes expired overrides."""
    tx.execute(delete(config_overrides).where(config_overrides.c.expire_time <= now))


def record_override_revision(tx: Transaction, queue_names: Collection[str], revision: int) -> None:
    """Records the revision that changed the overrides of queues."""
    tx.execute(
        update(config_documents)
        .where(
            config_documents.c.kind == DocumentKind.QUEUE.value,
            among(tx, config_documents.c.name, queue_names),
        )
        .values(override_revision=revision)
    )
