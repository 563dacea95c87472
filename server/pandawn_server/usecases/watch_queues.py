"""Reads ahead: jobs that pilots have not asked for yet, so that the best is known when they do."""

from __future__ import annotations

from pandawn_server.storage import queues
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.feeding import feed_page

PAGES = 4
"""Pages of jobs read ahead at a time: some 8,000 jobs a second, and no pilot waits long for it."""


def look_ahead(context: Context) -> None:
    """Reads on where a brokerage does not know all runnable jobs of its queue yet."""
    for name in context.brokers.used():
        for _ in range(PAGES):
            with context.brokers.lock, context.db.read() as tx:
                queue = queues.get_queues(tx, [name]).get(name)
                if queue is None:
                    break
                now = context.clock()
                broker = context.brokers.of(queue, now)
                if broker.is_complete or not broker.brokerage.room:
                    break
                feed_page(tx, name, broker, now)
