"""What a process remembers of pilots and caches, and how it finds out that it is no longer so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import ClassVar

import pytest

from pandawn_server.domain.leases.attempts import Locality
from pandawn_server.domain.tasks.jobs import Requirements
from pandawn_server.storage.database import Database
from pandawn_server.storage.leases import pilots
from pandawn_server.usecases.catalog.watch import watch_catalog
from pandawn_server.usecases.dispatch.feeding import NODE_AGE, READ_AGE
from pandawn_server.usecases.dispatch.known import PILOT_CHECK
from pandawn_server.usecases.dispatch.watch_queues import read_ahead
from tests.fixtures.catalog import catalog_on, memcached_store, memory_store
from tests.fixtures.database import OpenDatabase
from tests.fixtures.factories import ANYTHING, make_input, make_inputs, node_key
from tests.fixtures.memcached import MemcachedFactory, MemcachedServer
from tests.fixtures.plans import recorded
from tests.fixtures.world import World, reason

GB = 10**9


@pytest.fixture
def world(database: Database) -> World:
    """A server with one queue."""
    world = World(database, catalog_on(memory_store()))
    world.queue()
    world.reap()
    return world


def test_a_pilot_that_another_server_ended_is_found_out_in_the_background(
    world: World, open_database: OpenDatabase
) -> None:
    other = world.beside(open_database())
    world.submit_jobs(3)
    pilot = world.pilot()
    world.take(pilot)
    other.leave(pilot)
    world.clock.advance(PILOT_CHECK)
    read_ahead(world.context)
    (answer,) = world.ask_all([world.call(pilot)])
    assert reason(answer) == "PILOT_NOT_FOUND"


def test_of_many_pilots_those_have_ended_that_left_or_never_were(world: World) -> None:
    left, there = world.pilot(1), world.pilot(2)
    world.leave(left)
    asked = [left.pilot_id, there.pilot_id, "never"]
    with world.db.read() as tx:
        assert pilots.ended_among(tx, asked) == {left.pilot_id, "never"}


class Interrupted(datetime):
    """A time at whose first comparison something else happens, as between two threads."""

    interruptions: ClassVar[list[Callable[[], None]]] = []

    def __ge__(self, other: date) -> bool:
        assert isinstance(other, datetime)
        while self.interruptions:
            self.interruptions.pop()()
        return super().__ge__(other)


def test_a_pilot_may_end_while_it_is_seen_whom_to_look_up(world: World) -> None:
    world.submit_jobs(3)
    gone, there = world.pilot(1), world.pilot(2)
    for pilot in (gone, there):
        world.take(pilot)
    known = world.context.known
    Interrupted.interruptions.append(lambda: known.forget_pilots([gone.pilot_id]))
    later = world.clock.now + PILOT_CHECK * 2
    now = Interrupted.fromtimestamp(later.timestamp(), later.tzinfo)
    assert there.pilot_id in known.unchecked_pilots(now)
    assert Interrupted.interruptions == []


def test_a_pilot_that_lives_is_not_read_again_for_a_call_once_it_was_looked_up(
    world: World,
) -> None:
    world.submit_jobs(5)
    pilot = world.pilot()
    world.take(pilot)
    for _ in range(3):
        world.clock.advance(PILOT_CHECK * 1.5)
        read_ahead(world.context)
        with recorded(world.db) as statements:
            world.take(pilot)
        assert not [sql for sql, _ in statements.sent if "pilots.host" in sql]


def test_a_pilot_that_nobody_looked_up_for_long_is_read_for_its_call(
    world: World, open_database: OpenDatabase
) -> None:
    other = world.beside(open_database())
    world.submit_jobs(3)
    pilot = world.pilot()
    world.take(pilot)
    other.leave(pilot)
    world.clock.advance(timedelta(minutes=2))
    (answer,) = world.ask_all([world.call(pilot)])
    assert reason(answer) == "PILOT_NOT_FOUND"


def test_contacts_and_offers_of_those_who_ask_are_noted_together(world: World) -> None:
    world.submit_jobs(9)
    asking = [world.pilot(node) for node in (1, 2, 3)]
    offers = [ANYTHING, Requirements(cores=4, wall_time=timedelta(hours=1)), Requirements(10**9)]
    world.clock.advance(timedelta(minutes=5))
    world.ask_all(
        [world.call(pilot, offer=offer) for pilot, offer in zip(asking, offers, strict=True)]
    )
    with world.db.read() as tx:
        noted = pilots.get_pilots(tx, [pilot.pilot_id for pilot in asking])
    assert [noted[pilot.pilot_id].offer for pilot in asking] == offers
    assert {pilot.contact_time for pilot in noted.values()} == {world.clock()}


@pytest.fixture
def cached(
    sqlite_database: Database, memcached_factory: MemcachedFactory
) -> Iterator[tuple[World, MemcachedServer]]:
    """A server with four jobs, the files of which lie on one node, and the memcached that says so."""
    server = memcached_factory.start()
    catalog = catalog_on(memcached_store([server]))
    world = World(sqlite_database, catalog)
    world.queue()
    world.reap()
    world.submit(inputs=make_inputs(4, GB))
    world.keep(node_key(1), *(make_input(number, GB) for number in (1, 2, 3, 4)))
    watch_catalog(world.context)
    yield world, server
    catalog.close()


def local_bytes(world: World) -> tuple[Locality, int]:
    match = world.take(world.pilot(1)).match
    return match.locality, match.local_bytes


def test_what_a_lost_memcached_told_is_doubted_at_the_next_look(
    cached: tuple[World, MemcachedServer],
) -> None:
    world, server = cached
    assert local_bytes(world) == (Locality.KNOWN, GB)
    server.kill()
    watch_catalog(world.context)
    assert local_bytes(world)[0] is Locality.UNKNOWN


def test_a_memcached_that_came_back_empty_is_noticed_at_the_next_look(
    cached: tuple[World, MemcachedServer],
) -> None:
    world, server = cached
    assert local_bytes(world) == (Locality.KNOWN, GB)
    server.kill()
    server.start()
    watch_catalog(world.context)
    assert local_bytes(world)[0] is Locality.UNKNOWN


def test_without_a_loss_a_cache_that_says_the_same_is_not_compared_again_for_a_while(
    world: World,
) -> None:
    assert READ_AGE < NODE_AGE
    world.submit(inputs=make_inputs(9, GB))
    world.keep(node_key(1), *(make_input(number, GB) for number in range(1, 9)))
    pilot = world.pilot(1)
    world.take(pilot)
    desk = world.context.desks.get(pilot.queue)
    assert desk is not None
    met = desk.nodes[node_key(1)].met
    world.clock.advance(NODE_AGE * 0.9)
    world.take(pilot)
    assert desk.nodes[node_key(1)].met == met
    world.clock.advance(NODE_AGE * 0.2)
    world.take(pilot)
    assert desk.nodes[node_key(1)].met == world.clock()
