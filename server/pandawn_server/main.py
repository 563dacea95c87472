"""Builds the server from its settings, runs it, and stops it."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import structlog

from pandawn_server.backends import Backends, await_database, open_some_catalog
from pandawn_server.background import periodic_workers
from pandawn_server.catalog.catalog import Observe, unobserved
from pandawn_server.config import Settings, masked
from pandawn_server.logs import Log
from pandawn_server.storage.database import Database, Effects
from pandawn_server.telemetry.api import OFF, Attributes, Observation, Telemetry
from pandawn_server.telemetry.names import (
    CATALOG,
    CATALOG_ITEMS,
    CATALOG_OPERATION,
    DB_SYSTEM,
    POLLING_PILOTS,
    QUEUE,
)
from pandawn_server.usecases.access.session_book import Sessions
from pandawn_server.usecases.access.sessions import refresh_sessions
from pandawn_server.usecases.committed import follow, log_events
from pandawn_server.usecases.context import Context
from pandawn_server.wire.auth.doors import listening_of, open_identity
from pandawn_server.wire.auth.identity import Identity
from pandawn_server.wire.auth.resolver import SystemNames, ThreadedResolver
from pandawn_server.wire.auth.session import SessionAuthenticator
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.dispatch.polls import Polls
from pandawn_server.wire.edge.auditing import Auditor
from pandawn_server.wire.edge.batcher import Batchers
from pandawn_server.wire.edge.runner import Runner
from pandawn_server.wire.edge.server import EdgeServer, Service
from pandawn_server.wire.queues.watch import ConfigWatch
from pandawn_server.wire.services import services
from pandawn_server.workers.loop import PeriodicWorker

FIRST_KEYS_S = 3.0
"""How long the start waits for the keys of token issuers."""

LAST_WORK_S = 2.0
"""Minimum time for work still in the database after all calls have ended, if the grace is shorter; work that takes
longer hangs."""

_log: Log = structlog.get_logger(__name__)


def serve(settings: Settings, more_services: Sequence[Service] = ()) -> None:
    """Runs the server until SIGTERM or SIGINT; `more_services` are added to its own (used by the benchmark).

    Raises the errors of `await_database`, and `wire.edge.listening.StartError`.
    """
    with ExitStack() as closing:
        telemetry = _telemetry(settings)
        closing.callback(telemetry.close)
        database = await_database(settings)
        closing.callback(database.dispose)
        catalog = open_some_catalog(settings, _observer(settings, database, telemetry))
        closing.callback(catalog.close)
        _calm_collector()
        with asyncio.Runner(loop_factory=_loop_factory()) as loop:
            loop.run(_serve(settings, Backends(database, catalog), telemetry, more_services))
    _log.info("stopped")


def _calm_collector() -> None:
    """Makes the garbage collector scan mostly new objects: a matchmaker keeps millions of old ones.

    They have no reference cycles, so reference counts free them.
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
    identity = sessions.judge = await _identity(settings)
    listening = listening_of(
        settings, telemetry, SessionAuthenticator(sessions), sessions.has_ended, identity
    )
    auditor = Auditor(deps.context, deps.batchers, deps.runner)
    server = EdgeServer(
        [*services(deps), *more_services], listening, telemetry, deps.shutting_down, auditor
    )
    workers = periodic_workers(deps, auditor)
    with _stop_signals() as stop:
        addresses = await server.start()
        for worker in workers:
            worker.start()
        for address in addresses:
            # For callers that use port 0 and do not read logs.
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
        # This order loses nothing in flight: first refuse new calls, then end those that only wait, then answer the
        # others, then write what they left to be written.
        await server.announce_stop()
        deps.shutting_down.set()
        deps.polls.close()
        deps.config_watch.close()
        await server.stop(timedelta(seconds=settings.grace_seconds))
        last_work = asyncio.ensure_future(_finish(deps, workers, auditor))
        await asyncio.wait([last_work], timeout=max(settings.grace_seconds, LAST_WORK_S))
        if not last_work.done():
            # Python itself would wait for the threads forever.
            _log.error("work in the database hangs; exiting without it")
            os._exit(1)
        await last_work


async def _identity(settings: Settings) -> Identity:
    """Opens the identity, with the keys of those token issuers that answer soon."""
    identity = open_identity(settings)
    identity.start()
    # An issuer that is down must not keep the server from starting; earlier keys are on disk.
    await asyncio.to_thread(identity.is_ready.wait, FIRST_KEYS_S)
    return identity


async def _finish(deps: Deps, workers: Sequence[PeriodicWorker[Any]], auditor: Auditor) -> None:
    """Waits for work whose callers have gone, and starts no more."""
    await auditor.close()
    await deps.batchers.close()
    for worker in workers:
        await worker.stop()
    await deps.runner.close()
    deps.resolver.close()


def _deps(settings: Settings, backends: Backends, telemetry: Telemetry) -> Deps:
    runner = Runner(settings.database_pool_size)
    context = Context(
        db=backends.database,
        catalog=backends.catalog,
        clock=backends.database.clock,
        rng=random.SystemRandom(),
        sessions=Sessions(settings.session_life, settings.session_longest),
    )
    batchers = Batchers(
        runner,
        # One batch of a kind at a time, on PostgreSQL too: a second would wait for the first.
        concurrency=1,
        telemetry=telemetry,
    )

    def polling() -> Iterable[tuple[float, Attributes]]:
        counts = context.desks.poll_counts()
        return [(count, {QUEUE: queue}) for queue, count in counts.items()]

    telemetry.watch(POLLING_PILOTS, polling)
    polls, config_watch = Polls(context, runner, batchers), ConfigWatch(context)

    def after_commit(effects: Effects) -> None:
        log_events(effects.events)
        polls.wake(follow(context, effects))
        config_watch.wake()

    backends.database.after_commit = after_commit
    return Deps(
        context=context,
        settings=settings,
        runner=runner,
        batchers=batchers,
        polls=polls,
        config_watch=config_watch,
        shutting_down=asyncio.Event(),
        telemetry=telemetry,
        resolver=ThreadedResolver(SystemNames()),
    )


def _telemetry(settings: Settings) -> Telemetry:
    if not settings.otlp_endpoint:
        return OFF
    # The SDK takes half a second to import, so only if it is used.
    from pandawn_server.telemetry.otlp import OtlpTelemetry

    return OtlpTelemetry(settings.otlp_endpoint)


def _observer(settings: Settings, database: Database, telemetry: Telemetry) -> Observe:
    if not telemetry.enabled:
        return unobserved
    from pandawn_server.telemetry.database import observe_database

    observe_database(database.engine, telemetry)
    system = settings.catalog.partition(":")[0]

    def observe(operation: str, items: int) -> Observation:
        attributes: Attributes = {
            DB_SYSTEM: system,
            CATALOG_OPERATION: operation,
            CATALOG_ITEMS: items,
        }
        return telemetry.observe(CATALOG, f"catalog {operation}", attributes)

    return observe


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            _log.error("second stop signal; exiting at once")
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
