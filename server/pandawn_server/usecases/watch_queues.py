"""What a server process looks for by itself every second: changes of queues, and jobs that nobody asked for yet."""

from __future__ import annotations

from pandawn_server.storage import pilots
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.feeding import feed_page, read_nodes
from pandawn_server.usecases.override_queues import write_down_expired

PAGES = 16
"""Pages of jobs read ahead at a time: some 8,000 jobs a second, and no pilot waits long for it."""

NODES_AT_ONCE = 32
"""Nodes whose contents are taken in while nobody is served: some 15 ms of work with 500 files each."""

NODE_READS = 16
"""How often that is done at a time: some 500 nodes a second."""


def watch_queues(context: Context) -> None:
    """Takes in what other processes changed of queues, writes down overrides that ended, and reads ahead."""
    with context.db.read() as tx:
        context.config.refresh(tx)
    write_down_expired(context)
    look_ahead(context)


def look_ahead(context: Context) -> None:
    """Reads on where a brokerage does not know all runnable jobs of its queue, or all its nodes, yet.

    And looks up which of the pilots that are remembered have ended.
    """
    _check_pilots(context)
    for name in context.brokers.used():
        for _ in range(PAGES):
            if not _read_page(context, name):
                break
        for _ in range(NODE_READS):
            if not _read_some_nodes(context, name):
                break


def _check_pilots(context: Context) -> None:
    now = context.clock()
    with context.brokers.lock:
        due = context.known.unchecked_pilots(now)
    if due:
        # Whoever ends after this is found out next time: `checked` is the time before.
        with context.db.read() as tx:
            ended = pilots.ended_among(tx, due)
        with context.brokers.lock:
            context.known.note_checked(due, ended, now)


def _read_page(context: Context, name: str) -> bool:
    with context.brokers.lock, context.db.read() as tx:
        now = context.clock()
        queue = context.config.queues(tx, [name], now).get(name)
        if queue is None:
            return False
        broker = context.brokers.of(queue, now)
        if broker.is_complete or not broker.brokerage.room:
            return False
        return not feed_page(tx, name, broker, now)


def _read_some_nodes(context: Context, name: str) -> bool:
    with context.brokers.lock:
        broker = context.brokers.get(name)
        if broker is None:
            return False
        return read_nodes(context, broker, NODES_AT_ONCE, context.clock()) == NODES_AT_ONCE
