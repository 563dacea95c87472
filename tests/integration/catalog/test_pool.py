"""The catalog on a pool of three real memcached servers of which some are lost and come back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.catalog.store import route_of
from pandawn_server.domain.catalog.inventory import DeltaResult, NodeKey
from pandawn_server.domain.errors import UnavailableError
from tests.fixtures.catalog import (
    EPOCH,
    NOW,
    ManualClock,
    Opener,
    adding,
    held,
    inventory,
    is_known,
    make_file,
    make_files,
    state,
    talk,
)
from tests.fixtures.memcached import MemcachedFactory, MemcachedServer

FILES = make_files(*range(100))
NODES = [NodeKey("SITE", f"wn{number:02d}.example.org") for number in range(40)]
# Longer than a lost server is ever left alone.
REST = timedelta(minutes=1)


class Pool:
    """Three servers, a catalog on them, and nodes that all are known."""

    def __init__(self, factory: MemcachedFactory, opened: Opener) -> None:
        self.opened = opened
        self.servers = factory.start_pool(3)
        self.clock = ManualClock()
        self.catalog = self.open()
        for key in NODES:
            self.catalog.replace(inventory(1, FILES, key=key), NOW)
        self.of_first = {key for key in NODES if self.lives_on(key, self.servers[0])}
        assert 0 < len(self.of_first) < len(NODES)
        # One that moves when the first server is lost.
        self.moved = min(self.of_first)

    def open(self) -> Catalog:
        return self.opened(self.servers, self.clock)

    def lives_on(self, key: NodeKey, server: MemcachedServer) -> bool:
        return talk(server, f"mg {route_of(key)}", "\r\n") == "HD"

    def known(self) -> set[NodeKey]:
        answers = self.catalog.holdings([(key, []) for key in NODES])
        return {key for key, answer in zip(NODES, answers, strict=True) if answer is not None}


@pytest.fixture
def pool(memcached_factory: MemcachedFactory, opened: Opener) -> Pool:
    """A pool of three with all nodes known."""
    return Pool(memcached_factory, opened)


def test_losing_one_of_three_makes_its_nodes_unknown_and_they_move(pool: Pool) -> None:
    pool.servers[0].kill()

    assert pool.known() == set(NODES) - pool.of_first
    told = [(key, state(1, FILES)) for key in NODES]
    assert pool.catalog.touch(told, NOW) == [key in pool.of_first for key in NODES]
    for key in pool.of_first:
        pool.catalog.replace(inventory(1, FILES, key=key), NOW)
    assert pool.known() == set(NODES)
    assert pool.catalog.touch(told, NOW) == [False] * len(NODES)
    for key in pool.of_first:
        assert any(pool.lives_on(key, server) for server in pool.servers[1:])
        assert held(pool.catalog, FILES, key=key) == [file.size_bytes for file in FILES]
    [problem] = pool.catalog.unreachable()
    assert pool.servers[0].address in problem


def test_deltas_of_a_lost_server_do_not_hold_up_those_of_the_others(pool: Pool) -> None:
    pool.servers[0].kill()
    outcomes = pool.catalog.apply([adding(2, make_file(500), key=key) for key in NODES], NOW)
    assert [outcome.result for outcome in outcomes] == [
        DeltaResult.INVENTORY_REQUESTED if key in pool.of_first else DeltaResult.APPLIED
        for key in NODES
    ]


def test_a_server_that_comes_back_empty_gets_its_nodes_again(pool: Pool) -> None:
    pool.servers[0].kill()
    for key in pool.of_first:
        pool.catalog.replace(inventory(1, FILES, key=key), NOW)
    pool.servers[0].start()
    pool.clock.advance(REST)

    assert pool.known() == set(NODES) - pool.of_first
    for key in pool.of_first:
        pool.catalog.replace(inventory(1, FILES, key=key), NOW)
        assert pool.lives_on(key, pool.servers[0])
        assert not any(pool.lives_on(key, server) for server in pool.servers[1:])
    assert pool.known() == set(NODES)


def test_no_older_state_comes_back_to_life_with_its_server(pool: Pool) -> None:
    pool.servers[0].freeze()
    pool.catalog.replace(inventory(1, FILES, key=pool.moved), NOW)
    assert pool.catalog.flush(pool.moved, EPOCH + 1, NOW) == len(FILES)
    pool.servers[0].thaw()
    pool.clock.advance(REST)

    # It is asked anew; those that nobody wrote meanwhile are known again at once.
    assert pool.known() == set(NODES) - {pool.moved}
    other_process = pool.open()
    assert not is_known(other_process, pool.moved)


def test_what_was_kept_elsewhere_does_not_come_back_at_the_next_loss(pool: Pool) -> None:
    pool.servers[0].freeze()
    pool.catalog.replace(inventory(1, FILES, key=pool.moved), NOW)
    pool.servers[0].thaw()
    pool.clock.advance(REST)
    pool.catalog.replace(inventory(2, FILES[:1], key=pool.moved), NOW)
    pool.servers[0].kill()

    assert not is_known(pool.catalog, pool.moved)


def test_nor_what_was_kept_on_a_server_that_was_lost_in_between(pool: Pool) -> None:
    first = pool.servers[0]
    first.freeze()
    pool.catalog.replace(inventory(1, FILES, key=pool.moved), NOW)
    [second] = [server for server in pool.servers[1:] if pool.lives_on(pool.moved, server)]
    second.freeze()
    pool.known()
    first.thaw()
    pool.clock.advance(REST)
    pool.catalog.replace(inventory(2, FILES[:1], key=pool.moved), NOW)
    assert pool.lives_on(pool.moved, first)
    second.thaw()
    pool.clock.advance(REST)
    pool.known()
    assert held(pool.catalog, FILES[:2], key=pool.moved) == [1000, None]
    first.kill()

    assert not is_known(pool.catalog, pool.moved)


def test_a_node_is_where_the_last_living_server_is(pool: Pool) -> None:
    for server in pool.servers[:2]:
        server.kill()
    for key in NODES:
        pool.catalog.replace(inventory(1, FILES, key=key), NOW)
    assert pool.known() == set(NODES)
    for server in pool.servers[:2]:
        server.start()
        pool.clock.advance(REST)
        pool.known()
    # Each went home; wherever it was in between, nothing of it is left.
    for key in NODES:
        assert sum(pool.lives_on(key, server) for server in pool.servers) <= 1


def test_all_servers_lost_are_all_named(pool: Pool) -> None:
    for server in pool.servers:
        server.kill()
    with pytest.raises(UnavailableError) as failed:
        pool.known()
    for server in pool.servers:
        assert server.address in failed.value.message
    assert len(pool.catalog.unreachable()) == 3


def test_two_servers_of_ours_agree_again_after_one_of_them_missed_an_outage(pool: Pool) -> None:
    other = pool.open()
    assert held(other, FILES, key=pool.moved)
    pool.servers[0].freeze()
    pool.catalog.replace(inventory(1, FILES, key=pool.moved), NOW)
    pool.catalog.apply([adding(2, make_file(500), key=pool.moved)], NOW)
    pool.servers[0].thaw()

    # The other process asked nothing meanwhile: it still sees the state from before the outage,
    # which the digest shows, or the sequence number once the grace is over.
    told = (pool.moved, state(1, FILES[:50]))
    assert other.touch([told], NOW) == [True]
    pool.clock.advance(REST)
    pool.known()
    assert other.touch([told], NOW) == [True]
    other.replace(inventory(2, FILES, key=pool.moved), NOW)
    for catalog in (pool.catalog, other):
        assert held(catalog, FILES, key=pool.moved) == [file.size_bytes for file in FILES]


def test_the_pulse_changes_with_each_loss_and_each_return_and_not_otherwise(pool: Pool) -> None:
    other = pool.open()
    whole = pool.catalog.pulse()
    assert len(set(whole)) == 3
    assert pool.catalog.pulse() == other.pulse() == whole
    pool.servers[0].kill()
    broken = pool.catalog.pulse()
    assert [was == now for was, now in zip(whole, broken, strict=True)] == [False, True, True]
    assert pool.catalog.pulse() == broken
    pool.servers[0].start()
    pool.clock.advance(REST)
    mended = pool.catalog.pulse()
    assert mended[1:] == whole[1:]
    assert mended[0] not in (whole[0], broken[0])
    assert other.pulse() == mended
