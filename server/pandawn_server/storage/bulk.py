"""Inserts many rows with a single parameter: a JSON document that the database itself unpacks.

With one parameter per value, a large insert spends most of its time passing parameters between the layers
in Python. The document is encoded in one call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache

from sqlalchemy import JSON, Table, TextClause, text
from sqlalchemy.dialects import postgresql

from pandawn_server.storage.database import Transaction
from pandawn_server.storage.types import with_zone

Value = (
    str
    | int
    | float
    | bool
    | datetime
    | Sequence[str | int]
    | Sequence[Sequence[str | int]]
    | Mapping[str, object]
    | None
)
"""The value of a column; lists and maps are for JSON columns."""


def insert_rows(
    tx: Transaction, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Value]]
) -> None:
    """Inserts rows, each with one value per column, in the order of `columns`."""
    embedded = tx.dialect.name == "sqlite"
    document = json.dumps(
        list(rows), default=_sqlite_time if embedded else _time, check_circular=False
    )
    if document != "[]":
        tx.execute(_statement(table, tuple(columns), embedded), {"rows": document})


def _time(value: object) -> str:
    assert isinstance(value, datetime), "JSON knows all other types"
    return with_zone(value).isoformat()


def _sqlite_time(value: object) -> str:
    assert isinstance(value, datetime), "JSON knows all other types"
    # The format in which `storage.types.UtcDateTime` stores it.
    return with_zone(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


@cache
def _statement(table: Table, columns: tuple[str, ...], embedded: bool) -> TextClause:
    names = ", ".join(f'"{name}"' for name in columns)
    if embedded:
        values = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(len(columns)))
        return text(f"INSERT INTO {table.name} ({names}) SELECT {values} FROM json_each(:rows)")  # noqa: S608
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    values = ", ".join(
        f"r -> {i}"
        if isinstance(table.c[name].type, JSON)
        else f"CAST(r ->> {i} AS {table.c[name].type.compile(dialect)})"
        for i, name in enumerate(columns)
    )
    return text(
        f"INSERT INTO {table.name} ({names}) SELECT {values} "  # noqa: S608 (names of our own schema)
        "FROM json_array_elements(CAST(:rows AS json)) AS r"
    )
