"""The SQL condition that a column is one of many values, as a single parameter."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeVar

from sqlalchemy import ARRAY, ColumnElement, any_, func, literal, select

from pandawn_server.storage.database import Transaction

Value = TypeVar("Value", int, str)


def among(
    tx: Transaction, column: ColumnElement[Value], values: Iterable[Value]
) -> ColumnElement[bool]:
    """Whether `column` is one of any number of `values`.

    PostgreSQL allows at most 65,535 parameters (SQLite 32,766), and would plan a new statement for each
    number of them. The values are sorted, so that transactions lock the same rows in the same order.
    """
    ordered = sorted(set(values))
    if tx.dialect.name == "sqlite":
        each = func.json_each(json.dumps(ordered)).table_valued("value")
        return column.in_(select(each.c.value))
    return column == any_(literal(ordered, ARRAY(column.type)))
