"""The migrations lead to exactly the tables of `storage.schema`, whoever runs them and how often."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Boolean, bindparam, inspect, text
from sqlalchemy.schema import CreateIndex

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import PreconditionError
from pandawn_server.domain.queues.queues import QueueStatus
from pandawn_server.domain.queues.revisions import Cause
from pandawn_server.storage.database import MIGRATIONS, Database
from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import UtcDateTime
from pandawn_server.usecases.queues.configure import get_queue
from pandawn_server.usecases.queues.history import diff_revisions, list_revisions
from pandawn_server.usecases.tasks.read import get_task
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.clock import NOON
from tests.fixtures.database import open_fast
from tests.fixtures.world import World

MIGRATE = "import sys; from pandawn_server.storage.database import Database; Database.open(sys.argv[1]).migrate()"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database in which nothing was made yet, on each engine in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'pandawn.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def test_the_migrations_make_the_tables_of_the_schema_and_nothing_else(database: Database) -> None:
    with database.read() as tx:
        context = MigrationContext.configure(
            tx,
            opts={
                "compare_type": True,
                # Alembic takes an empty default of SQLite for none.
                "compare_server_default": not database.is_embedded,
                # What they say of themselves cannot be compared on SQLite; see the next test.
                "include_object": lambda _object, _name, kind, *_: kind != "index",
            },
        )
        assert compare_metadata(context, metadata) == []


def test_the_migrations_make_the_indexes_of_the_schema_and_no_others(database: Database) -> None:
    """Autogenerate compares neither expressions nor conditions of indexes: here are their definitions."""
    wanted = {
        str(index.name): _normal(str(CreateIndex(index).compile(database.engine)))
        for table in metadata.sorted_tables
        for index in table.indexes
    }
    query = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        if database.is_embedded
        else "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    )
    with database.read() as tx:
        made = {name: _normal(definition) for name, definition in tx.execute(text(query))}
    # The others belong to constraints, which were compared with the tables.
    assert {name: made[name] for name in made if name.startswith("ix_")} == wanted


def _normal(definition: str) -> str:
    """A definition without what the engines add, or write in their own way."""
    # PostgreSQL's way to say NOT IN.
    definition = re.sub(r"<> ALL \(ARRAY\[(.*)\]\)", r"NOT IN \1", definition)
    return re.sub(r'public\.|USING btree|::text|\[\]|[\s"()]', "", definition).lower()


def test_migrating_twice_is_harmless(empty_url: str) -> None:
    database = open_fast(empty_url)
    database.migrate()
    database.migrate()
    database.check()
    database.dispose()


def test_a_database_that_was_not_migrated_says_what_to_do(empty_url: str) -> None:
    database = open_fast(empty_url)
    with pytest.raises(PreconditionError) as caught:
        database.check()
    database.dispose()
    assert caught.value.reason == "SCHEMA_OUTDATED"
    assert "pandawn-server migrate" in caught.value.message
    assert "version none" in caught.value.message


def test_a_schema_of_another_version_says_which_and_what_to_do(empty_url: str) -> None:
    database = open_fast(empty_url)
    database.migrate()
    with database.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(PreconditionError, match="version 0000") as caught:
        database.check()
    database.dispose()
    assert caught.value.reason == "SCHEMA_OUTDATED"


def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    if empty_url.startswith("sqlite"):
        Path(empty_url.removeprefix("sqlite:///")).parent.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, empty_url], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    database = open_fast(empty_url)
    database.check()
    database.dispose()


def test_there_is_one_line_of_migrations() -> None:
    script = ScriptDirectory(str(MIGRATIONS))
    assert len(script.get_heads()) == 1
    assert [r.revision for r in script.walk_revisions()][-1] == "0001"


def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    database = open_fast(empty_url)
    with database.write() as tx:
        # The name of a table of ours is taken.
        tx.execute(text("CREATE TABLE tasks (other INTEGER)"))
    with pytest.raises(Exception, match="tasks"):
        database.migrate()
    with database.read() as tx:
        assert inspect(tx).get_table_names() == ["tasks"]
    database.dispose()


def migrate_to(database: Database, revision: str) -> None:
    """Brings an empty database to an earlier version."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.write() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, revision)


def test_queues_of_a_database_without_history_become_its_first_revision(empty_url: str) -> None:
    database = open_fast(empty_url)
    migrate_to(database, "0006")
    with database.write() as tx:
        tx.execute(
            text(
                """
                INSERT INTO queues (name, site, status, max_wall_time_s, cores, etag, update_time)
                VALUES ('A', 'S', 'brokeroff', 3600.5, 8, 'etag-a', :now),
                    ('B', NULL, NULL, NULL, NULL, 'etag-b', :now)
                """
            ).bindparams(bindparam("now", type_=UtcDateTime)),
            {"now": NOON},
        )
        tx.execute(
            text(
                """
                INSERT INTO tasks ("user", dataset, queue, site, priority, max_attempts, files_per_job, build,
                    sandbox_id, command, build_command, outputs, environment, output_url, create_time)
                VALUES ('anna', 'd', 'A', 'S', 0, 3, 1, :no, '', '[]', '[]', '[]', '{}', '', :now)
                """
            ).bindparams(bindparam("now", type_=UtcDateTime), bindparam("no", type_=Boolean)),
            {"now": NOON, "no": False},
        )
    database.migrate()
    world = World(database, catalog_on(memory_store()))
    queue = get_queue(world.context, "A")
    assert (queue.site, queue.status, queue.cores) == ("S", QueueStatus.BROKEROFF, 8)
    assert (queue.max_wall_time, queue.etag) == (timedelta(seconds=3600.5), "etag-a")
    assert (queue.update_time, queue.revision) == (NOON, 1)
    assert get_queue(world.context, "B").site == "B"
    (first,) = list_revisions(world.context, 0, 10, None)
    assert (first.revision, first.cause, first.created) == (1, Cause.MIGRATION, 2)
    _, changes = diff_revisions(world.context, 0, 1)
    assert [change.key.name for change in changes] == ["A", "B"]
    assert world.queue("A", cores=4).revision == 2
    assert not get_task(world.context, 1, LOCAL_OPERATOR).task.spec.test
    database.dispose()


def test_an_empty_database_has_no_revision_yet(empty_url: str) -> None:
    database = open_fast(empty_url)
    database.migrate()
    world = World(database, catalog_on(memory_store()))
    assert list_revisions(world.context, 0, 10, None) == []
    assert world.queue().revision == 1
    database.dispose()
