"""How the database's own troubles look to callers, and that they pass."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from pandawn_server.domain.errors import PandawnError, PreconditionError, UnavailableError
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.storage import upkeep_schema
from pandawn_server.storage.database import Database
from pandawn_server.storage.monitor import events
from tests.fixtures.clock import NOON
from tests.fixtures.database import OpenDatabase, migrate, open_fast
from tests.fixtures.interleave import COMMIT, interleave
from tests.fixtures.ports import LOOPBACK, free_port
from tests.fixtures.postgres import PostgresServer


def note(database: Database, text_: str = "something") -> None:
    with database.write() as tx:
        events.insert_events(tx, [Event(NOON, EventKind.PILOT_LOST, text_)])


def count(database: Database) -> int:
    with database.read() as tx:
        return len(events.read_events(tx, 0, 1000))


def test_an_error_in_a_transaction_undoes_all_of_it(database: Database) -> None:
    def write_and_fail() -> None:
        with database.write() as tx:
            events.insert_events(tx, [Event(NOON, EventKind.PILOT_LOST, "")])
            raise ValueError

    with pytest.raises(ValueError):
        write_and_fail()
    assert count(database) == 0


def test_events_are_handed_on_once_they_are_committed_and_never_before(database: Database) -> None:
    told: list[Event] = []
    database.after_commit = lambda effects: told.extend(effects.events)
    try:
        with pytest.raises(ValueError), database.write() as tx:  # noqa: PT012
            events.insert_events(tx, [Event(NOON, EventKind.PILOT_ENDED, "")])
            assert told == []
            raise ValueError
        note(database)
        assert [event.kind for event in told] == [EventKind.PILOT_LOST]
    finally:
        database.after_commit = lambda _: None


def test_what_fails_after_a_commit_fails_no_call(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no loop")

    database.after_commit = fail
    try:
        note(database)
    finally:
        database.after_commit = lambda _: None
    assert count(database) == 1
    assert "no loop" in caplog.text


def test_a_time_without_zone_is_refused(database: Database) -> None:
    with pytest.raises(Exception, match="time without zone"):
        note_at_naive_noon(database)


def note_at_naive_noon(database: Database) -> None:
    with database.write() as tx:
        events.insert_events(tx, [Event(NOON.replace(tzinfo=None), EventKind.PILOT_LOST, "")])


def test_times_come_back_in_utc_to_the_microsecond(database: Database) -> None:
    time = NOON.replace(microsecond=123456)
    with database.write() as tx:
        events.insert_events(tx, [Event(time, EventKind.PILOT_LOST, "")])
    with database.read() as tx:
        (numbered,) = events.read_events(tx, 0, 1)
    assert numbered.event.time == time
    assert str(numbered.event.time.tzinfo) == "UTC"


def test_two_that_write_the_same_key_at_once_conflict_and_the_loser_may_repeat(
    database: Database, open_database: OpenDatabase
) -> None:
    def claim(db: Database) -> None:
        with db.write() as tx:
            row = {"name": "n", "owner": "o", "run_time": NOON, "expire_time": NOON}
            tx.execute(insert(upkeep_schema.claims).values(row))

    other = open_database()
    winner, loser = interleave(lambda: claim(database), database, COMMIT, lambda: claim(other))
    assert winner.exception() is None
    error = loser.exception()
    assert isinstance(error, UnavailableError)
    assert error.reason == "DATABASE_CONFLICT"
    assert error.retry_after


def test_a_row_that_can_never_be_stored_is_no_conflict_to_repeat(database: Database) -> None:
    row = {"name": "n", "owner": None, "run_time": NOON, "expire_time": NOON}
    with pytest.raises(IntegrityError), database.write() as tx:
        tx.execute(insert(upkeep_schema.claims).values(row))


def test_wrong_sql_is_not_taken_for_an_outage(database: Database) -> None:
    with pytest.raises((ProgrammingError, OperationalError)), database.read() as tx:
        tx.execute(text("SELECT nonsense FROM nowhere"))


def test_a_deadlock_is_a_lost_race_and_no_outage(
    postgres_database: Database,
) -> None:
    one = postgres_database
    other = open_fast(one.engine.url.render_as_string(hide_password=False))
    note(one)
    note(one)

    def update(db: Database, first: int, second: int) -> None:
        with db.write() as tx:
            tx.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
            for event_id in (first, second):
                tx.execute(
                    text("UPDATE events SET text = '' WHERE event_id = :id /* second */")
                    if event_id == second
                    else text("UPDATE events SET text = '' WHERE event_id = :id"),
                    {"id": event_id},
                )

    futures = interleave(
        lambda: update(one, 1, 2), one, "/* second */", lambda: update(other, 2, 1)
    )
    other.dispose()
    failed = [error for future in futures if (error := future.exception())]
    assert [reason_of(error) for error in failed] == ["DATABASE_CONFLICT"]


def reason_of(error: BaseException) -> str:
    assert isinstance(error, PandawnError)
    return error.reason


@pytest.mark.parametrize(
    "url",
    [
        "mysql://localhost/x",
        "not a url",
        "postgresql://localhost/x",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_of_no_supported_database_is_refused(url: str) -> None:
    with pytest.raises(PreconditionError) as caught:
        Database.open(url)
    assert caught.value.reason == "BAD_DATABASE_URL"


def test_a_place_where_no_file_can_be_made_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreconditionError, match="file/x"):
        Database.open(f"sqlite:///{tmp_path}/file/x/pandawn.db")


def test_a_directory_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}")
    with pytest.raises(UnavailableError) as caught:
        database.check()
    assert str(tmp_path) in caught.value.detail
    database.dispose()


def test_the_embedded_database_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "pandawn.db"
    migrate(f"sqlite:///{path}")
    database = Database.open(f"sqlite:///{path}")
    with database.write():
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    database.dispose()
    assert set(modes.values()) == {0o600}
    assert "pandawn.db-wal" in modes
    # Who wants a group to read it has said so.
    path.chmod(0o640)
    Database.open(f"sqlite:///{path}").dispose()
    assert path.stat().st_mode & 0o777 == 0o640


def make_mails(path: Path, application_id: int) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mails (subject)")
        other.execute(f"PRAGMA application_id = {application_id}")
    other.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: make_mails(path, 77),
        lambda path: make_mails(path, 0),
        lambda path: path.write_text("no database at all, and longer than a header would be" * 9),
    ],
    ids=["marked", "not marked", "text"],
)
def test_a_file_of_another_program_is_left_alone(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    path = tmp_path / "mail.db"
    make(path)
    before = path.read_bytes()
    database = Database.open(f"sqlite:///{path}")
    with pytest.raises(PreconditionError, match=r"mail\.db belongs to another program") as caught:
        database.migrate()
    database.dispose()
    assert caught.value.reason == "BAD_DATABASE_URL"
    assert path.read_bytes() == before


def test_nobody_at_the_address_is_named_to_operators_only_and_never_with_the_password() -> None:
    port = free_port()
    database = Database.open(f"postgresql+psycopg://anna:geheim@{LOOPBACK}:{port}/pandawn")
    with pytest.raises(UnavailableError) as caught:
        database.check()
    database.dispose()
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    assert str(port) not in caught.value.message
    assert str(port) in caught.value.detail
    assert "geheim" not in caught.value.detail


def test_an_outage_of_postgresql_is_told_and_over_when_it_is_back(
    own_postgres_server: PostgresServer,
) -> None:
    url = own_postgres_server.create_database()
    migrate(url)
    database = open_fast(url)
    note(database)
    own_postgres_server.stop()
    for _ in range(2):
        with pytest.raises(UnavailableError) as caught:
            note(database)
        assert caught.value.reason == "DATABASE_UNAVAILABLE"
        assert caught.value.retry_after
    own_postgres_server.start()
    note(database)
    own_postgres_server.kill()
    own_postgres_server.start()
    # The pool may learn of the crash from one call, and not from two.
    try:
        note(database)
    except UnavailableError:
        note(database)
    assert count(database) == 3
    database.dispose()


def test_when_all_connections_are_in_use_the_caller_is_sent_away(sqlite_database: Database) -> None:
    url = sqlite_database.engine.url.render_as_string()
    database = Database.open(url, pool_size=1)
    database.engine.pool._timeout = 0.01  # type: ignore[attr-defined] # not 30 s in a test
    with database.read(), pytest.raises(UnavailableError) as caught:
        database.check()
    database.dispose()
    assert caught.value.reason == "DATABASE_BUSY"
