"""The condition that a column is one of many values, given to the database as one parameter."""

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
    """Whether `column` is one of `values`, of which there may be any number.

    A list of parameters would end at 65,535 of them in PostgreSQL (32,766 in SQLite), and would
    be another statement to plan for each length. The values are sorted, so that transactions
    which lock the same rows do it in the same order.
    """
    ordered = sorted(set(values))
    if tx.dialect.name == "sqlite":
        each = func.json_each(json.dumps(ordered)).table_valued("value")
        return column.in_(select(each.c.value))
    return column == any_(literal(ordered, ARRAY(column.type)))
