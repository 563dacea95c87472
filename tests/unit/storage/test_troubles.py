"""Which error of a database is whose. Each row is one that real sites have had."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from pandawn_server.domain.errors import Code
from pandawn_server.storage.troubles import Trouble, error_for, trouble_of


def of_postgres(state: str, *, broken: bool = False) -> DBAPIError:
    error: psycopg.Error
    try:
        error = psycopg.errors.lookup(state)("said so")
    except KeyError:
        error = psycopg.DatabaseError("said so")
        error.sqlstate = state
    return DBAPIError("SELECT 1", None, error, connection_invalidated=broken)


def of_sqlite(code: int) -> DBAPIError:
    error = sqlite3.OperationalError("said so")
    error.sqlite_errorcode = code
    return DBAPIError("SELECT 1", None, error)


@pytest.mark.parametrize(
    ("state", "trouble"),
    [
        ("23505", Trouble.LOST_RACE),
        ("40001", Trouble.LOST_RACE),
        ("40P01", Trouble.LOST_RACE),
        ("25006", Trouble.READ_ONLY),
        ("25P03", Trouble.AWAY),
        ("08006", Trouble.AWAY),
        ("57P01", Trouble.AWAY),
        ("57P02", Trouble.AWAY),
        ("57P03", Trouble.AWAY),
        ("26000", Trouble.AWAY),
        ("42P05", Trouble.AWAY),
        ("53300", Trouble.BUSY),
        ("53400", Trouble.BUSY),
        ("55P03", Trouble.BUSY),
        ("57014", Trouble.BUSY),
        ("53100", Trouble.FULL),
        ("28P01", Trouble.REFUSES_US),
        ("XX001", Trouble.DAMAGED),
        ("42601", None),
        ("42P01", None),
        ("23502", None),
        ("22001", None),
        ("25P02", None),
    ],
)
def test_a_state_of_postgresql_is_whose_it_is(state: str, trouble: Trouble | None) -> None:
    assert trouble_of(of_postgres(state)) is trouble


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (sqlite3.SQLITE_BUSY, Trouble.BUSY),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Trouble.BUSY),
        (sqlite3.SQLITE_FULL, Trouble.FULL),
        (sqlite3.SQLITE_IOERR_FSYNC, Trouble.AWAY),
        (sqlite3.SQLITE_READONLY_DBMOVED, Trouble.READ_ONLY),
        (sqlite3.SQLITE_CORRUPT, Trouble.DAMAGED),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, Trouble.LOST_RACE),
        (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, Trouble.LOST_RACE),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, None),
        (sqlite3.SQLITE_ERROR, None),
    ],
)
def test_a_code_of_sqlite_is_whose_it_is(code: int, trouble: Trouble | None) -> None:
    assert trouble_of(of_sqlite(code)) is trouble


def test_a_connection_that_broke_is_an_outage_whatever_was_said_last() -> None:
    assert trouble_of(of_postgres("22001", broken=True)) is Trouble.AWAY


@pytest.mark.parametrize("trouble", Trouble)
def test_each_trouble_is_told_as_one_that_passes_and_when_to_come_back(trouble: Trouble) -> None:
    told = error_for(trouble)
    assert told.code is Code.UNAVAILABLE
    assert told.retry_after
