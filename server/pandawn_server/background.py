"""The periodic work of a server process, with intervals and reasons."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from pandawn_server.usecases.access.limits import release_throttled, throttle_excess
from pandawn_server.usecases.access.sessions import REFRESH_INTERVAL, refresh_sessions
from pandawn_server.usecases.catalog.watch import watch_catalog
from pandawn_server.usecases.dispatch.watch_queues import watch_queues
from pandawn_server.usecases.leases.reap import Reaped, reap
from pandawn_server.usecases.leases.watch_clock import watch_clock
from pandawn_server.usecases.retain import retain
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.edge.auditing import FLUSH_INTERVAL, Auditor
from pandawn_server.workers.loop import PeriodicWorker

QUEUE_WATCH_INTERVAL = timedelta(seconds=1)
"""How often to look for work that another server process made runnable, and for changes of queues."""

CATALOG_WATCH_INTERVAL = timedelta(seconds=2)
"""How soon a server process notices that a catalog server was lost or came back, and what was pinned through another
process: one small request to each, and one small query."""

THROTTLE_INTERVAL = timedelta(seconds=1)
"""How often to look for throttled jobs: a user's slot stays empty for so long at most. Without such jobs it is
one read of an empty index."""

HOLD_BACK_INTERVAL = timedelta(seconds=10)
"""How often to look for runnable jobs above a limit that was lowered. If there are limits, this counts what is
runnable on those queues."""

RETENTION_INTERVAL = timedelta(minutes=1)
"""How often to delete what is old; while there is more, it continues at once."""

CLOCK_WATCH_INTERVAL = timedelta(seconds=10)
"""How often to compare this machine's clock with the database's, and to log a difference."""


def periodic_workers(deps: Deps, auditor: Auditor) -> list[PeriodicWorker[Any]]:
    """Makes the workers; the caller starts and stops them."""
    return [
        _reaper(deps),
        _queue_watch(deps),
        _catalog_watch(deps),
        _clock_watch(deps),
        _retention(deps),
        _throttle(deps),
        _hold_back(deps),
        _session_refresh(deps),
        _audit(deps, auditor),
    ]


def _reaper(deps: Deps) -> PeriodicWorker[Reaped]:
    settings = deps.settings

    return PeriodicWorker(
        "reaper",
        settings.reaper_interval,
        partial(
            reap,
            deps.context,
            deps.context.new_id(),
            settings.reaper_interval,
        ),
        deps.runner,
        telemetry=deps.telemetry,
    )


def _queue_watch(deps: Deps) -> PeriodicWorker[bool]:
    def after(_: bool) -> None:
        deps.config_watch.look()
        deps.polls.wake_all()

    return PeriodicWorker(
        "queue-watch",
        QUEUE_WATCH_INTERVAL,
        partial(watch_queues, deps.context),
        deps.runner,
        after=after,
        is_behind=bool,
        telemetry=deps.telemetry,
    )


def _catalog_watch(deps: Deps) -> PeriodicWorker[None]:
    return PeriodicWorker(
        "catalog-watch",
        CATALOG_WATCH_INTERVAL,
        partial(watch_catalog, deps.context),
        deps.runner,
        telemetry=deps.telemetry,
    )


def _retention(deps: Deps) -> PeriodicWorker[bool]:
    return PeriodicWorker(
        "retention",
        RETENTION_INTERVAL,
        partial(
            retain, deps.context, deps.context.new_id(), RETENTION_INTERVAL, deps.settings.kept
        ),
        deps.runner,
        is_behind=bool,
        telemetry=deps.telemetry,
    )


def _throttle(deps: Deps) -> PeriodicWorker[None]:
    return PeriodicWorker(
        "throttle",
        THROTTLE_INTERVAL,
        partial(release_throttled, deps.context, deps.context.new_id(), THROTTLE_INTERVAL),
        deps.runner,
        telemetry=deps.telemetry,
    )


def _hold_back(deps: Deps) -> PeriodicWorker[int]:
    return PeriodicWorker(
        "hold-back",
        HOLD_BACK_INTERVAL,
        partial(throttle_excess, deps.context, deps.context.new_id(), HOLD_BACK_INTERVAL),
        deps.runner,
        telemetry=deps.telemetry,
    )


def _audit(deps: Deps, auditor: Auditor) -> PeriodicWorker[None]:
    return PeriodicWorker(
        "audit", FLUSH_INTERVAL, auditor.flush, deps.runner, telemetry=deps.telemetry
    )


def _session_refresh(deps: Deps) -> PeriodicWorker[None]:
    return PeriodicWorker(
        "session-refresh",
        REFRESH_INTERVAL,
        partial(refresh_sessions, deps.context),
        deps.runner,
        telemetry=deps.telemetry,
    )


def _clock_watch(deps: Deps) -> PeriodicWorker[timedelta]:
    return PeriodicWorker(
        "clock-watch",
        CLOCK_WATCH_INTERVAL,
        partial(watch_clock, deps.context),
        deps.runner,
        telemetry=deps.telemetry,
    )
