"""Finds work for pilots that wait here: work that another server process made runnable."""

from __future__ import annotations

from collections.abc import Collection

from pandawn_server.storage import jobs
from pandawn_server.usecases.context import Context


def runnable_queues(context: Context, names: Collection[str]) -> set[str]:
    """Those queues among `names` that have a runnable job."""
    if not names:
        return set()
    with context.db.read() as tx:
        return jobs.runnable_queues(tx, names)
