"""Opens the database and the catalog, waits for them, and checks that they are usable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from pandawn_server.catalog.catalog import Catalog, Observe, unobserved
from pandawn_server.catalog.factory import open_catalog
from pandawn_server.catalog.pins import PinBook
from pandawn_server.config import Settings, masked
from pandawn_server.domain.errors import PandawnError, PreconditionError, UnavailableError
from pandawn_server.logs import Log
from pandawn_server.storage.database import Database
from pandawn_server.storage.engines import embedded_path

NO_DATABASE = "NO_DATABASE"
"""The reason when an embedded database does not exist yet."""

RETRY_S = 1.0
"""Interval between tries while waiting for the database."""

LOG_INTERVAL_S = 5.0
"""Interval between log lines while waiting."""

_log: Log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backends:
    """Where the server keeps its state."""

    database: Database
    catalog: Catalog


def open_checked_database(settings: Settings) -> Database:
    """Opens a database and checks that it is usable; migrates an embedded one first.

    Raises `UnavailableError` if it does not answer, `PreconditionError` if it must be migrated.
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


def open_standing_database(settings: Settings) -> Database:
    """Opens an existing, usable database, and neither creates nor changes one.

    An operator's query, perhaps run as root, must leave no file that the server cannot write, and a mistyped
    address must not create a database.

    Raises `UnavailableError` if it does not answer, `PreconditionError` if it must be created or migrated.
    """
    path = embedded_path(settings.database_url)
    if path is not None and not path.exists():
        # The nearest existing directory: those below it would be created.
        above = next(directory for directory in path.absolute().parents if directory.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            raise PreconditionError(
                "BAD_DATABASE_URL", f"cannot create {path}: you may not write to {above}"
            )
        raise PreconditionError(
            NO_DATABASE, f"there is no {path} yet; `serve` or `migrate` creates it"
        )
    database = Database.open(settings.database_url, settings.database_pool_size)
    try:
        database.check()
    except PandawnError:
        database.dispose()
        raise
    return database


def open_reachable_catalog(settings: Settings) -> Catalog:
    """Opens the catalog. Raises `UnavailableError` if none of its servers answers.

    If only some do not answer, that costs speed but is no reason not to start.
    """
    catalog = open_catalog(settings.catalog)
    problems = catalog.unreachable()
    if problems and len(problems) > settings.catalog.count(","):
        catalog.close()
        raise UnavailableError(
            "CATALOG_UNAVAILABLE",
            f"the catalog {masked(settings.catalog)} does not answer: {'; '.join(problems)}",
        )
    return catalog


def await_database(
    settings: Settings,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Database:
    """Like `open_checked_database`, but waits for a database that may still be starting, and logs that.

    Raises the same errors: at the end of the configured time, or at once if waiting cannot help.
    """
    begin = clock()
    logged = begin - LOG_INTERVAL_S
    while True:
        try:
            database = open_checked_database(settings)
        except UnavailableError as error:
            now = clock()
            if now - begin >= settings.start_wait_seconds:
                raise
            if now - logged >= LOG_INTERVAL_S:
                logged = now
                _log.warning(
                    "waiting for the database",
                    since_seconds=round(now - begin),
                    at_most_seconds=settings.start_wait_seconds,
                    message=error.detail or error.message,
                )
            pause(RETRY_S)
        else:
            return database


def open_some_catalog(settings: Settings, observe: Observe = unobserved) -> Catalog:
    """Opens the catalog whether or not its servers answer: it only gives hints, and jobs run without them."""
    pins = PinBook(timedelta(days=settings.pin_silence_days))
    catalog = open_catalog(settings.catalog, pins, observe)
    for problem in catalog.unreachable():
        _log.warning(
            "catalog server does not answer; jobs run without its data until it does",
            problem=problem,
        )
    return catalog
