"""Deletes what is old: tasks, events, audit, answers, sandboxes, pilots, nodes; in small transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime, timedelta

from pandawn_server.domain.retention import Kept
from pandawn_server.storage import claims, retention
from pandawn_server.storage.database import Database
from pandawn_server.usecases.context import Context

LOT = 1000
"""Rows per transaction: some hundredths of a second, so that nobody waits for long."""

CLAIM_INTERVALS = 1.5
"""Duration of the claim in intervals, like the reaper's."""


def retain(context: Context, owner: str, interval: timedelta, kept: Kept) -> bool:
    """Deletes up to `LOT` old rows of each kind; returns whether there is more.

    Each server process runs it every `interval`, or at once if there is more; only one does the work.
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
    """Deletes up to `LOT` old rows of each kind and adds their number to `deleted`; returns whether there is more.

    For tasks it counts their jobs.
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
