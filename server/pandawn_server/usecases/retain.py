"""What is old is deleted: tasks, events, audit, answers, sandboxes, pilots, nodes; a lot in each transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime, timedelta

from pandawn_server.domain.retention import Kept
from pandawn_server.storage import claims, retention
from pandawn_server.storage.database import Database
from pandawn_server.usecases.context import Context

LOT = 1000
"""Rows of one transaction: some hundredths of a second, in which nobody waits for long."""

CLAIM_INTERVALS = 1.5
"""Length of the claim in intervals, as the reaper's."""


def retain(context: Context, owner: str, interval: timedelta, kept: Kept) -> bool:
    """Deletes a lot of each kind that is old; returns whether there is more.

    To be repeated every `interval`, or at once where there is more, by each server process; one does the work.
    """
    with context.db.write() as tx:
        now = context.clock()
        granted, _ = claims.claim(tx, "retention", owner, now, interval * CLAIM_INTERVALS)
    return granted and delete_some(context.db, context.clock, kept, {})


def delete_some(
    db: Database,
    clock: Callable[[], datetime],
    kept: Kept,
    deleted: MutableMapping[str, int],
) -> bool:
    """Deletes a lot of each kind, and adds to `deleted` how many rows; returns whether there is more.

    Of tasks their jobs are counted.
    """
    is_behind = False
    for kind, age in kept.by_kind().items():
        with db.write() as tx:
            count = retention.DELETIONS[kind](tx, clock() - age, LOT)
        deleted[kind] = deleted.get(kind, 0) + count
        is_behind = is_behind or count == LOT
    return is_behind


def count_old(db: Database, clock: Callable[[], datetime], kept: Kept) -> Mapping[str, int]:
    """How many of each kind would be deleted now."""
    with db.read() as tx:
        now = clock()
        return {kind: retention.count(tx, kind, now - age) for kind, age in kept.by_kind().items()}
