"""What a server process does every second: follow changes of queues, and read jobs and nodes ahead."""

from __future__ import annotations

import time

from pandawn_server.storage.leases import pilots
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.dispatch.feeding import feed_page, read_nodes
from pandawn_server.usecases.queues.overrides import record_expired

PAGES = 16
"""Pages of jobs read ahead per queue and run: about 8,000 jobs, during which the queue's other work waits."""

NODES_AT_ONCE = 32
"""Nodes read at once while no call is served: about 15 ms of work with 500 files each."""

NODE_READS = 16
"""How often to do that per run: about 500 nodes a second."""

TURN_S = 0.001
"""Pause that lets other threads take the lock: a thread that releases it and takes it again at once would
mostly win."""


def watch_queues(context: Context) -> bool:
    """Follows changes that other processes made to queues, records overrides that ended, and reads ahead.

    Returns whether there are more jobs to read ahead.
    """
    with context.db.read() as tx:
        context.config.refresh(tx)
    record_expired(context)
    return read_ahead(context)


def read_ahead(context: Context) -> bool:
    """Reads more jobs and nodes where a desk does not know all of its queue yet, and checks remembered pilots.

    Returns whether there are more jobs to read.
    """
    _check_pilots(context)
    more = [_read_ahead(context, name) for name in context.desks.used()]
    return any(more)


def _read_ahead(context: Context, name: str) -> bool:
    more = True
    for _ in range(PAGES):
        more = _read_page(context, name)
        if not more:
            break
        time.sleep(TURN_S)
    for _ in range(NODE_READS):
        if not _read_some_nodes(context, name):
            break
        time.sleep(TURN_S)
    return more


def _check_pilots(context: Context) -> None:
    now = context.clock()
    with context.desks.lock:
        due = context.known.unchecked_pilots(now)
    if due:
        # A pilot that ends after this is found next time, because `checked` is the time before.
        with context.db.read() as tx:
            ended = pilots.ended_among(tx, due)
        with context.desks.lock:
            context.known.record_checked(due, ended, now)


def _read_page(context: Context, name: str) -> bool:
    with context.desks.lock, context.db.read() as tx:
        now = context.clock()
        queue = context.config.queues(tx, [name], now).get(name)
        if queue is None:
            return False
        desk = context.desks.of(queue, now)
        if desk.is_complete or not desk.matchmaker.room:
            return False
        return not feed_page(tx, name, desk, now)


def _read_some_nodes(context: Context, name: str) -> bool:
    with context.desks.lock:
        desk = context.desks.get(name)
        if desk is None:
            return False
        return read_nodes(context, desk, NODES_AT_ONCE, context.clock()) == NODES_AT_ONCE
