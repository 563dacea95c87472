"""Puts the server together from its settings, runs it, and takes it apart again."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from pandawn_server.catalog.factory import open_catalog
from pandawn_server.catalog.pinned import PinnedCatalog
from pandawn_server.catalog.pins import PinBook
from pandawn_server.catalog.protocol import Catalog
from pandawn_server.config import Settings, masked
from pandawn_server.domain.errors import PandawnError, UnavailableError
from pandawn_server.logs import Log
from pandawn_server.storage.database import Database
from pandawn_server.telemetry.api import OFF, Attributes, Telemetry
from pandawn_server.telemetry.names import QUEUE, WAITING_PILOTS
from pandawn_server.usecases.allowances import hold_back_all, let_go_all
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.reap import Reaped, reap
from pandawn_server.usecases.session_book import Sessions
from pandawn_server.usecases.sessions import REFRESH_INTERVAL, refresh_sessions
from pandawn_server.usecases.telling import log_events
from pandawn_server.usecases.watch_catalog import watch_catalog
from pandawn_server.usecases.watch_queues import watch_queues
from pandawn_server.wire.auditing import FLUSH_INTERVAL, Auditor
from pandawn_server.wire.auth.doors import listening_of, open_identity
from pandawn_server.wire.auth.identity import Identity
from pandawn_server.wire.auth.resolver import SystemNames, ThreadedResolver
from pandawn_server.wire.auth.session import SessionAuthenticator
from pandawn_server.wire.batcher import Batchers
from pandawn_server.wire.config_watch import ConfigWatch
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.runner import Runner
from pandawn_server.wire.server import EdgeServer, Service
from pandawn_server.wire.services import services
from pandawn_server.wire.waiting import WaitingCalls
from pandawn_server.workers.loop import PeriodicWorker

QUEUE_WATCH_INTERVAL = timedelta(seconds=1)
"""Time between two looks for work that another server process made runnable, and for changes of queues."""

CATALOG_WATCH_INTERVAL = timedelta(seconds=2)
"""Time until a server process knows that a server of the catalog was lost or came back, and what was pinned
through another process: one small question to each, and one small query."""

THROTTLE_INTERVAL = timedelta(seconds=1)
"""Time between two looks for jobs that wait for a limit of their user only: so long a slot of that user
stays empty at most. Without such jobs a look is one read of an empty index."""

FIRST_KEYS_S = 3.0
"""Time that the start waits for the keys of token issuers."""

HOLD_BACK_INTERVAL = timedelta(seconds=10)
"""Time between two looks for runnable jobs above a limit that was lowered. Where there are limits, a look
counts what is runnable on those queues."""

LAST_WORK_S = 2.0
"""Least time for work that is still in the database when all calls have ended, where the grace is
shorter; more means that it hangs."""

_log: Log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backends:
    """What the server keeps its state in."""

    database: Database
    catalog: Catalog


def open_checked_database(settings: Settings) -> Database:
    """Opens the database ready for use; the embedded one is migrated on the way.

    Raises `UnavailableError` when it does not answer, `PreconditionError` when it must be migrated.
    """
    database = Database.open(settings.database_url, settings.database_pool_size)
    try:
        if database.is_embedded:
            database.migrate()
        database.check()
    except PandawnError:
        database.dispose()
        raise
    return database


def open_reachable_catalog(settings: Settings) -> Catalog:
    """Opens the catalog. Raises `UnavailableError` if none of its servers answers.

    One that is away among several is only a loss of speed, and no reason not to start.
    """
    catalog = open_catalog(settings.catalog)
    problems = catalog.unreachable()
    for problem in problems:
        _log.warning("catalog server does not answer", problem=problem)
    if problems and len(problems) > settings.catalog.count(","):
        catalog.close()
        raise UnavailableError(
            "CATALOG_UNAVAILABLE",
            f"the catalog {masked(settings.catalog)} does not answer: {'; '.join(problems)}",
        )
    return catalog


def serve(settings: Settings, more_services: Sequence[Service] = ()) -> None:
    """Runs the server until SIGTERM or SIGINT; `more_services` stand beside its own (the benchmark has one).

    Raises what `open_checked_database` and `open_reachable_catalog` do, and `wire.listening.StartError`.
    """
    with ExitStack() as closing:
        telemetry = _telemetry(settings)
        closing.callback(telemetry.close)
        database = open_checked_database(settings)
        closing.callback(database.dispose)
        database.after_commit = log_events
        catalog = open_reachable_catalog(settings)
        closing.callback(catalog.close)
        if telemetry.enabled:
            catalog = _observed(settings, database, catalog, telemetry)
        _calm_collector()
        with asyncio.Runner(loop_factory=_loop_factory()) as loop:
            loop.run(_serve(settings, Backends(database, catalog), telemetry, more_services))
    _log.info("stopped")


def _calm_collector() -> None:
    """Lets the garbage collector look at new objects mostly: what a brokerage keeps are millions of old ones.

    Nothing there refers to itself in a circle; reference counts free it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 1_000)


async def _serve(
    settings: Settings,
    backends: Backends,
    telemetry: Telemetry,
    more_services: Sequence[Service],
) -> None:
    deps = _deps(settings, backends, telemetry)
    await deps.runner.run(refresh_sessions, deps.context)
    sessions = deps.context.sessions
    identity = await _identity(settings)
    listening = listening_of(
        settings, telemetry, SessionAuthenticator(sessions), sessions.has_ended, identity
    )
    auditor = Auditor(deps.context, deps.batchers, deps.runner)
    server = EdgeServer(
        [*services(deps), *more_services], listening, telemetry, deps.shutting_down, auditor
    )
    workers: list[PeriodicWorker[Any]] = [
        _reaper(deps),
        _queue_watch(deps),
        _catalog_watch(deps),
        _throttle(deps),
        _hold_back(deps),
        _session_refresh(deps),
        _audit(deps, auditor),
    ]
    with _stop_signals() as stop:
        addresses = await server.start()
        for worker in workers:
            worker.start()
        for address in addresses:
            # For whoever started us on port 0 and reads no logs.
            print(f"pandawn-server listening on {address}", flush=True)  # noqa: T201
        _log.info(
            "serving",
            addresses=addresses,
            database=backends.database.shown_url,
            catalog=masked(settings.catalog),
            takes=[listener.described() for listener in settings.listeners],
        )
        await stop.wait()
        _log.info("stopping", grace_seconds=settings.grace_seconds)
        # In this order nothing in flight is lost: first nobody new comes, then those who only
        # wait are sent away, then the others are answered, then what they wrote is on disk.
        await server.announce_stop()
        deps.shutting_down.set()
        deps.waiting.close()
        deps.config_watch.close()
        await server.stop(timedelta(seconds=settings.grace_seconds))
        last_work = asyncio.ensure_future(_finish(deps, workers, auditor))
        await asyncio.wait([last_work], timeout=max(settings.grace_seconds, LAST_WORK_S))
        if not last_work.done():
            # Python itself would wait for the threads for ever.
            _log.error("work in the database hangs; ending without it")
            os._exit(1)
        await last_work


async def _identity(settings: Settings) -> Identity:
    """What callers are judged by, with the keys of those token issuers that answer soon."""
    identity = open_identity(settings)
    identity.start()
    # One that is away must not keep the server from starting; keys of before are on disk.
    await asyncio.to_thread(identity.is_ready.wait, FIRST_KEYS_S)
    return identity


async def _finish(deps: Deps, workers: Sequence[PeriodicWorker[Any]], auditor: Auditor) -> None:
    """Waits for work whose callers have gone, and lets none begin."""
    await auditor.close()
    await deps.batchers.close()
    for worker in workers:
        await worker.stop()
    await deps.runner.close()
    deps.resolver.close()


def _deps(settings: Settings, backends: Backends, telemetry: Telemetry) -> Deps:
    runner = Runner(settings.database_pool_size)
    pins = PinBook(timedelta(days=settings.pin_silence_days))
    context = Context(
        db=backends.database,
        catalog=PinnedCatalog(backends.catalog, pins),
        clock=backends.database.clock,
        rng=random.SystemRandom(),
        pins=pins,
        sessions=Sessions(settings.session_life),
    )
    batchers = Batchers(
        runner,
        # One batch of a kind at a time, on PostgreSQL too: a second would wait for the first.
        concurrency=1,
        telemetry=telemetry,
    )

    def waiting() -> Iterable[tuple[float, Attributes]]:
        counts = context.brokers.waiting_counts()
        return [(count, {QUEUE: queue}) for queue, count in counts.items()]

    telemetry.watch(WAITING_PILOTS, waiting)
    return Deps(
        context=context,
        settings=settings,
        runner=runner,
        batchers=batchers,
        waiting=WaitingCalls(context, runner, batchers),
        config_watch=ConfigWatch(context),
        shutting_down=asyncio.Event(),
        telemetry=telemetry,
        resolver=ThreadedResolver(SystemNames()),
    )


def _reaper(deps: Deps) -> PeriodicWorker[Reaped]:
    settings = deps.settings

    def after(reaped: Reaped) -> None:
        for queue in reaped.ended.runnable_queues:
            deps.waiting.notify(queue)

    return PeriodicWorker(
        "reaper",
        settings.reaper_interval,
        partial(
            reap,
            deps.context,
            deps.context.new_id(),
            settings.reaper_interval,
            settings.event_retention,
            settings.audit_retention,
        ),
        deps.runner,
        after=after,
        telemetry=deps.telemetry,
    )


def _queue_watch(deps: Deps) -> PeriodicWorker[bool]:
    def after(_: bool) -> None:
        deps.config_watch.look()
        deps.waiting.notify_all()

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


def _throttle(deps: Deps) -> PeriodicWorker[frozenset[str]]:
    def after(queues: frozenset[str]) -> None:
        for queue in queues:
            deps.waiting.notify(queue)

    return PeriodicWorker(
        "throttle",
        THROTTLE_INTERVAL,
        partial(let_go_all, deps.context, deps.context.new_id(), THROTTLE_INTERVAL),
        deps.runner,
        after=after,
        telemetry=deps.telemetry,
    )


def _hold_back(deps: Deps) -> PeriodicWorker[int]:
    return PeriodicWorker(
        "hold-back",
        HOLD_BACK_INTERVAL,
        partial(hold_back_all, deps.context, deps.context.new_id(), HOLD_BACK_INTERVAL),
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


def _telemetry(settings: Settings) -> Telemetry:
    if not settings.otlp_endpoint:
        return OFF
    # The SDK takes half a second to import: only for those who want it.
    from pandawn_server.telemetry.otlp import OtlpTelemetry

    return OtlpTelemetry(settings.otlp_endpoint)


def _observed(
    settings: Settings, database: Database, catalog: Catalog, telemetry: Telemetry
) -> Catalog:
    from pandawn_server.telemetry.catalog import ObservedCatalog
    from pandawn_server.telemetry.database import observe_database

    observe_database(database.engine, telemetry)
    return ObservedCatalog(catalog, settings.catalog.partition(":")[0], telemetry)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            _log.error("told to stop twice; ending at once")
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
