"""What follows from a committed transaction, whichever use case ran it: logs, caches, and polls to wake.

Use cases need not care: `Database.after_commit` passes the effects of each transaction to `follow`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

import structlog

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.logs import Log
from pandawn_server.storage.database import Effects
from pandawn_server.usecases.context import Context

_log: Log = structlog.get_logger(__name__)

_WORRYING = frozenset(
    {
        EventKind.JOB_FAILED,
        EventKind.JOB_RETRIED,
        EventKind.PILOT_LOST,
        EventKind.NODE_SUSPENDED,
    }
)
"""Kinds of events that an operator may want to look into."""

_PILOT_GONE = frozenset({EventKind.PILOT_ENDED, EventKind.PILOT_LOST})
_PILOTS = _PILOT_GONE | {EventKind.PILOT_REGISTERED}
_NODES = frozenset(kind for kind in EventKind if kind.name.startswith("NODE_"))


def follow(context: Context, effects: Effects) -> Collection[str]:
    """Updates what this process caches; returns the queues whose polls may now have an answer."""
    awake = set(effects.runnable)
    kinds = {event.kind for event in effects.events}
    if EventKind.QUEUE_APPLIED in kinds:
        # It may have gone offline or come back.
        _read_queues(context)
        awake.update(context.desks.used())
    if not _NODES.isdisjoint(kinds):
        # A node may get jobs again, or no more.
        awake.update(context.desks.used())
        for queue in context.desks.used():
            context.desks.pilots_changed(queue)
    for event in effects.events:
        if event.kind in _PILOT_GONE:
            context.known.forget_pilots([event.pilot_id])
            context.sessions.end([event.pilot_id], event.time)
        if event.kind in _PILOTS:
            # No job is held for a node without a pilot.
            context.desks.pilots_changed(event.queue)
    return awake


def _read_queues(context: Context) -> None:
    try:
        with context.db.read() as tx:
            context.config.refresh(tx)
    except UnavailableError as error:
        # The change is committed; the next refresh finds it.
        _log.warning("queues not read after a change", reason=error.reason, message=error.message)


def log_events(happened: Iterable[Event]) -> None:
    """Logs the events of a committed transaction, with their subjects as fields."""
    logs_all = _log.is_enabled_for(logging.INFO)
    for event in happened:
        if not logs_all and event.kind not in _WORRYING:
            continue
        log = _log.warning if event.kind in _WORRYING else _log.info
        about = {
            "task": event.task_id,
            "job": event.job_id,
            "attempt": event.attempt,
            "pilot": event.pilot_id,
            "node": event.node,
            "queue": event.queue,
            "user": event.user,
        }
        log(
            event.kind.lower().replace("_", " "),
            **{name: value for name, value in about.items() if value},
            text=event.text,
        )
