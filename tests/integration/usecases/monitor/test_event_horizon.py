"""A stream of events misses none of a transaction that was open for long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.storage.database import Database, Transaction
from pandawn_server.storage.monitor import events
from pandawn_server.usecases.monitor.event_horizon import LOOK_INTERVAL_S, PATIENCE_S, EventHorizon
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.clock import NOON
from tests.fixtures.database import open_fast
from tests.fixtures.world import World


class Looker:
    """A horizon whose looks take no time."""

    def __init__(self, world: World) -> None:
        self.seconds = 0.0
        self._world = world
        self._horizon = EventHorizon(lambda: self.seconds)

    def look(self, times: int = 1) -> int:
        found = 0
        for _ in range(times):
            self.seconds += LOOK_INTERVAL_S
            found = self._horizon.look(self._world.context)
        return found


@pytest.fixture
def postgres_world(postgres_database: Database) -> World:
    return World(postgres_database, catalog_on(memory_store()))


@pytest.fixture
def other(postgres_database: Database) -> Iterator[Database]:
    found = open_fast(postgres_database.engine.url.render_as_string(hide_password=False))
    yield found
    found.dispose()


def note(tx: Transaction) -> None:
    events.insert_events(tx, [Event(NOON, EventKind.PILOT_LOST, "")])


def last(world: World) -> int:
    with world.db.read() as tx:
        return events.last_event_id(tx)


def test_what_is_committed_is_settled_after_some_looks(world: World) -> None:
    looker = Looker(world)
    looker.look(3)
    with world.db.write() as tx:
        note(tx)
    assert looker.look(3) == last(world)


def test_nothing_is_settled_above_a_transaction_that_is_open_however_long(
    postgres_world: World, other: Database
) -> None:
    world = postgres_world
    looker = Looker(world)
    with other.write() as long:
        note(long)
        own = last(world) + 1
        with world.db.write() as tx:
            note(tx)
        assert last(world) == own + 1
        assert looker.look(50) < own
    assert looker.look(3) == own + 1


def test_a_transaction_that_never_ends_keeps_streams_waiting_for_a_while_only(
    postgres_world: World, other: Database
) -> None:
    looker = Looker(postgres_world)
    with other.write() as endless:
        note(endless)
        with postgres_world.db.write() as tx:
            note(tx)
        looker.look(3)
        looker.seconds += PATIENCE_S
        assert looker.look() == last(postgres_world)


def test_many_streams_look_once(world: World) -> None:
    looker = Looker(world)
    looker.look(3)
    before = looker.look()
    with world.db.write() as tx:
        note(tx)
    assert looker._horizon.look(world.context) == before
