"""The history of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, exists, insert, select, update

from pandawn_server.domain.queues.layers import DocumentKey, DocumentKind
from pandawn_server.domain.queues.queues import QueueSettings
from pandawn_server.domain.queues.revisions import Action, Author, Cause, Change, Revision
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues.schema import config_changes, config_head, config_revisions
from pandawn_server.storage.queues.settings import Json, pack_settings, unpack_settings

_HEAD = 1


def read_head(tx: Transaction) -> int:
    """Returns the current revision; 0 before the first."""
    return tx.execute(select(config_head.c.revision)).scalar() or 0


def lock_head(tx: Transaction) -> int:
    """Locks the head until the end of the transaction, so that changes run one after another; returns the revision."""
    found = tx.execute(select(config_head.c.revision).with_for_update()).scalar()
    if found is None:
        # If two transactions insert it at once, one fails and is retried.
        tx.execute(insert(config_head).values(head_id=_HEAD, revision=0))
    return found or 0


def write_revision(
    tx: Transaction,
    revision: int,
    now: datetime,
    cause: Cause,
    author: Author,
    changes: Sequence[Change],
) -> None:
    """Stores a revision, and makes it the current one. The caller has locked the head."""
    actions = [change.action for change in changes]
    tx.execute(
        insert(config_revisions).values(
            revision=revision,
            change_time=now,
            cause=cause.value,
            author=author.name,
            subject=author.subject,
            peer=author.peer,
            tool=author.tool,
            message=author.message,
            created_count=actions.count(Action.CREATE),
            changed_count=actions.count(Action.CHANGE) + actions.count(Action.OVERRIDE),
            deleted_count=actions.count(Action.DELETE),
        )
    )
    insert_rows(
        tx,
        config_changes,
        ("revision", "kind", "name", "of_overrides", "old", "new"),
        (
            (
                revision,
                change.key.kind.value,
                change.key.name,
                change.of_overrides,
                _packed(change.old),
                _packed(change.new),
            )
            for change in changes
        ),
    )
    tx.execute(update(config_head).values(revision=revision))


def list_revisions(
    tx: Transaction, before: int, limit: int, key: DocumentKey | None
) -> list[Revision]:
    """Returns up to `limit` revisions below `before` (0: any), newest first; with `key` those of one document."""
    query = select(config_revisions).order_by(config_revisions.c.revision.desc()).limit(limit)
    if before:
        query = query.where(config_revisions.c.revision < before)
    if key is not None:
        query = query.where(
            exists().where(
                config_changes.c.kind == key.kind.value,
                config_changes.c.name == key.name,
                config_changes.c.revision == config_revisions.c.revision,
            )
        )
    return [_to_revision(row) for row in tx.execute(query).mappings()]


def get_revisions(tx: Transaction, numbers: Collection[int]) -> dict[int, Revision]:
    """Returns the revisions that exist among `numbers`, by number."""
    query = select(config_revisions).where(among(tx, config_revisions.c.revision, numbers))
    found = (_to_revision(row) for row in tx.execute(query).mappings())
    return {revision.revision: revision for revision in found}


def changes_between(tx: Transaction, after: int, until: int) -> Iterator[Change]:
    """Yields the changes of documents by revisions above `after` and up to `until`, oldest first, without overrides."""
    table = config_changes
    query = (
        select(table.c.kind, table.c.name, table.c.old, table.c.new)
        .where(table.c.revision > after, table.c.revision <= until, ~table.c.of_overrides)
        .order_by(table.c.revision)
    )
    for kind, name, old, new in tx.execute(query):
        yield Change(DocumentKey(DocumentKind(kind), name), _unpacked(old), _unpacked(new))


def _packed(settings: QueueSettings | None) -> dict[str, Json] | None:
    return None if settings is None else pack_settings(settings)


def _unpacked(packed: Mapping[str, Json] | None) -> QueueSettings | None:
    return None if packed is None else unpack_settings(packed)


def _to_revision(row: RowMapping) -> Revision:
    return Revision(
        revision=row["revision"],
        time=row["change_time"],
        cause=Cause(row["cause"]),
        author=Author(row["author"], row["subject"], row["peer"], row["tool"], row["message"]),
        created=row["created_count"],
        changed=row["changed_count"],
        deleted=row["deleted_count"],
    )
