"""Reads the history of the configuration, and rolls it back."""

from __future__ import annotations

from dataclasses import replace

from pandawn_server.domain.errors import NotFoundError
from pandawn_server.domain.queues.layers import DocumentKey
from pandawn_server.domain.queues.queues import NOTHING_SET
from pandawn_server.domain.queues.revisions import Author, Cause, Change, Revision, composed
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues import revisions
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.queues.change import (
    Guards,
    Outcome,
    Wanted,
    change_documents,
    preview_documents,
)


def list_revisions(
    context: Context, before: int, limit: int, key: DocumentKey | None
) -> list[Revision]:
    """Returns up to `limit` revisions below `before` (0: any), newest first; with `key` those of one document."""
    with context.db.read() as tx:
        return revisions.list_revisions(tx, before, limit, key)


def diff_revisions(context: Context, older: int, newer: int) -> tuple[int, list[Change]]:
    """Returns revision `newer` (0: the current one) and its differences from `older` (0: before the first).

    Raises `NotFoundError` (REVISION_NOT_FOUND).
    """
    with context.db.read() as tx:
        head = revisions.read_head(tx)
        newer = newer or head
        _require(older, head)
        _require(newer, head)
        if older <= newer:
            return newer, composed(revisions.changes_between(tx, older, newer))
        return newer, [c.reversed for c in composed(revisions.changes_between(tx, newer, older))]


def rollback(
    context: Context, revision: int, author: Author, guards: Guards, *, validate_only: bool
) -> Outcome:
    """Rolls all documents back to a revision, as a new revision.

    Raises `NotFoundError` (REVISION_NOT_FOUND) and the errors of `change_documents`.
    """
    with context.db.read() as tx:
        head = revisions.read_head(tx)
        _require(revision, head)
        wanted = _wanted(tx, revision, head)
    if validate_only:
        # Of the revision that `wanted` was made from, though another change may just have come in.
        return replace(preview_documents(context, wanted), revision=head)
    if guards.expected_revision is None:
        # The changes were computed at this revision: no other change may come in between.
        guards = Guards(head, guards.allowed_removals)
    return change_documents(context, wanted, author, guards, Cause.ROLLBACK)


def _wanted(tx: Transaction, revision: int, head: int) -> list[Wanted]:
    return [
        Wanted(
            change.key,
            change.old or NOTHING_SET,
            delete=change.old is None,
            field=f"{change.key.kind.value}.{change.key.name}",
        )
        for change in composed(revisions.changes_between(tx, revision, head))
    ]


def _require(revision: int, head: int) -> None:
    if not 0 <= revision <= head:
        raise NotFoundError(
            "REVISION_NOT_FOUND",
            f"there is no revision {revision}; the last is {head}; `pandawn queues history` lists them",
            metadata={"revision": str(revision), "head": str(head)},
        )
