"""What the server keeps its state in: opened, waited for, and found fit for use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pandawn_server.catalog.factory import open_catalog
from pandawn_server.catalog.protocol import Catalog
from pandawn_server.config import Settings, masked
from pandawn_server.domain.errors import PandawnError, PreconditionError, UnavailableError
from pandawn_server.logs import Log
from pandawn_server.storage.database import Database
from pandawn_server.storage.engines import embedded_path

NO_DATABASE = "NO_DATABASE"
"""The reason where an embedded database is still to be made."""

RETRY_S = 1.0
"""Time between two tries while the database is waited for."""

LOG_INTERVAL_S = 5.0
"""Time between two lines that say so."""

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


def open_standing_database(settings: Settings) -> Database:
    """Opens a database that is there and fit for use, and makes or changes none.

    What an operator asks, perhaps as root, must leave no file behind that the server may not write, and an
    address with a slip in it is no new database.

    Raises `UnavailableError` when it does not answer, `PreconditionError` when it must be made or migrated.
    """
    path = embedded_path(settings.database_url)
    if path is not None and not path.exists():
        # The nearest directory that is there: those below it would be made.
        above = next(directory for directory in path.absolute().parents if directory.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            raise PreconditionError(
                "BAD_DATABASE_URL", f"{path} cannot be made: {above} is not writable for you"
            )
        raise PreconditionError(
            NO_DATABASE, f"there is no {path} yet; serve makes it, and so does migrate"
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

    One that is away among several is only a loss of speed, and no reason not to start.
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
    """As `open_checked_database`, of one that may still be starting: it is waited for, and the log says so.

    Raises what that does when the time of the settings is over, and at once for what no waiting mends.
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


def open_some_catalog(settings: Settings) -> Catalog:
    """Opens the catalog, be its servers there or not: what it tells is a hint, and jobs run without."""
    catalog = open_catalog(settings.catalog)
    for problem in catalog.unreachable():
        _log.warning(
            "catalog server does not answer; jobs go without what it knows until it does",
            problem=problem,
        )
    return catalog
