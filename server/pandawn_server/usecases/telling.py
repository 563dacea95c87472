"""What happened goes to the log as well, once it is committed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import structlog

from pandawn_server.domain.events import Event
from pandawn_server.logs import Log

_log: Log = structlog.get_logger(__name__)

_WORRYING = frozenset({"JOB_FAILED", "JOB_RETRIED", "PILOT_LOST", "NODE_SUSPENDED"})
"""Kinds of events that an operator may want to look into."""


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
