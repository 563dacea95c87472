"""Spans and metrics of the database: one for each statement and commit, from SQLAlchemy's events.

The official instrumentation package does not support SQLAlchemy 2.1 and ignores commits, which is where a durable
write spends its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import Connection, Engine, QueuePool, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import PoolProxiedConnection

from pandawn_server.telemetry.api import Attributes, AttributeValue, Observation, Telemetry
from pandawn_server.telemetry.names import (
    DATABASE,
    DB_BATCH_SIZE,
    DB_COLLECTION,
    DB_OPERATION,
    DB_QUERY,
    DB_SYSTEM,
    POOL_CONNECTIONS,
    POOL_NAME,
    POOL_STATE,
)

_RUNNING = "pandawn_observation"
_QUERY_CHARACTERS = 2000
"""Maximum length of a statement's text; one with thousands of parameters is unreadable anyway."""

_WORD = re.compile(r"\s*(\w+)")
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN)\s+\"?(\w+)", re.IGNORECASE)


def observe_database(engine: Engine, telemetry: Telemetry) -> None:
    """Observes all statements and commits of an engine, and the state of its pool."""
    system = {"postgresql": "postgresql", "sqlite": "sqlite"}.get(engine.dialect.name, "other_sql")

    @event.listens_for(engine, "before_cursor_execute")
    def before(
        connection: Connection,
        _cursor: object,
        statement: str,
        parameters: object,
        _context: object,
        executemany: bool,
    ) -> None:
        operation, table = _named(statement)
        attributes: dict[str, AttributeValue] = {
            DB_SYSTEM: system,
            DB_OPERATION: operation,
            # The text has placeholders, so users' values never leave in a span.
            DB_QUERY: statement[:_QUERY_CHARACTERS],
        }
        if table:
            attributes[DB_COLLECTION] = table
        if executemany and isinstance(parameters, list | tuple):
            attributes[DB_BATCH_SIZE] = len(parameters)
        name = f"{operation} {table}" if table else operation
        observation = telemetry.observe(DATABASE, name, attributes)
        observation.begin()
        connection.info[_RUNNING] = observation

    @event.listens_for(engine, "after_cursor_execute")
    def after(connection: Connection, *_: object) -> None:
        _finish(connection.info.pop(_RUNNING, None), None)

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        if context.connection is not None:
            observation = context.connection.info.pop(_RUNNING, None)
            _finish(observation, type(context.original_exception).__name__)

    commit = engine.dialect.do_commit

    def observed_commit(dbapi_connection: PoolProxiedConnection) -> None:
        with telemetry.observe(DATABASE, "COMMIT", {DB_SYSTEM: system, DB_OPERATION: "COMMIT"}):
            commit(dbapi_connection)

    # SQLAlchemy has an event before a commit but none after it.
    engine.dialect.do_commit = observed_commit  # type: ignore[method-assign]

    if isinstance(engine.pool, QueuePool):

        def connections() -> Iterable[tuple[float, Attributes]]:
            # Read each time, because the engine has a new pool after a failover.
            pool = engine.pool
            assert isinstance(pool, QueuePool)
            yield pool.checkedout(), {POOL_NAME: system, POOL_STATE: "used"}
            yield pool.checkedin(), {POOL_NAME: system, POOL_STATE: "idle"}

        telemetry.watch(POOL_CONNECTIONS, connections)


def _named(statement: str) -> tuple[str, str]:
    """The verb and the first table of a statement; the table is empty if there is none."""
    verb = _WORD.match(statement)
    table = _TABLE.search(statement)
    return (verb[1].upper() if verb else "SQL"), (table[1] if table else "")


def _finish(observation: object, error_type: str | None) -> None:
    if isinstance(observation, Observation):
        if error_type is not None:
            observation.fail(error_type)
        observation.end()
