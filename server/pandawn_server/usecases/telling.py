"""What happened, once it is committed: it goes to the log as well, and what this process remembers follows it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import structlog

from pandawn_server.domain.monitor.events import Event
from pandawn_server.logs import Log
from pandawn_server.usecases.context import Context

_log: Log = structlog.get_logger(__name__)

_WORRYING = frozenset({"JOB_FAILED", "JOB_RETRIED", "PILOT_LOST", "NODE_SUSPENDED"})
"""Kinds of events that an operator may want to look into."""


_COME_OR_GONE = frozenset({"PILOT_REGISTERED", "PILOT_ENDED", "PILOT_LOST"})
_GONE = _COME_OR_GONE - {"PILOT_REGISTERED"}


def tell(context: Context, happened: Sequence[Event]) -> None:
    """Logs events whose transaction is committed, and follows them."""
    log_events(happened)
    follow(context, happened)


def follow(context: Context, happened: Iterable[Event]) -> None:
    """Lets what this process remembers of pilots follow what was committed, whichever use case did it."""
    for event in happened:
        if event.kind in _GONE:
            context.known.forget_pilots([event.pilot_id])
            context.sessions.end([event.pilot_id], event.time)
        if event.kind in _COME_OR_GONE:
            # No job is held for a node that has no pilot any more.
            context.desks.pilots_changed(event.queue)


def log_events(happened: Iterable[Event]) -> None:
    """Logs events whose transaction is committed, with what they concern as fields."""
    tells_all = _log.is_enabled_for(logging.INFO)
    for event in happened:
        if not tells_all and event.kind not in _WORRYING:
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
