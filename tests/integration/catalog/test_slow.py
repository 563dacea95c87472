"""The catalog on a real memcached that answers late: within the time-out, after it, and one of three."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.catalog.member import Timeouts
from pandawn_server.catalog.memcached import MemcachedStore
from pandawn_server.domain.catalog.inventory import DeltaResult, NodeKey
from pandawn_server.domain.errors import UnavailableError
from tests.fixtures.catalog import (
    NODE,
    NOW,
    SILENCE,
    ManualClock,
    Opener,
    adding,
    catalog_on,
    held,
    inventory,
    make_file,
    make_files,
    state,
)
from tests.fixtures.memcached import MemcachedFactory, MemcachedServer
from tests.fixtures.ports import LOOPBACK
from tests.fixtures.slow import SlowRelay, slow_relay

FILES = make_files(*range(100))
NODES = [NodeKey("SITE", f"wn{number:02d}.example.org") for number in range(30)]
REST = timedelta(minutes=1)
TIME_OUT = timedelta(milliseconds=400)
LATE_S, TOO_LATE_S = 0.05, 1.0


@pytest.fixture
def relay(memcached: MemcachedServer) -> Iterator[SlowRelay]:
    with slow_relay(memcached.port) as relay:
        yield relay


class Slowly:
    """Opens catalogs through relays, with a short time-out and a clock to turn."""

    def __init__(self, opened: Opener) -> None:
        self.clock = ManualClock()
        self._opened = opened

    def open(self, *ports: int) -> Catalog:
        servers = [(LOOPBACK, port) for port in ports]
        store = MemcachedStore(servers, SILENCE, Timeouts(answer=TIME_OUT), self.clock)
        return self._opened.keep(catalog_on(store, self.clock))


@pytest.fixture
def slowly(opened: Opener) -> Slowly:
    return Slowly(opened)


def test_answers_within_the_time_out_are_only_late(relay: SlowRelay, slowly: Slowly) -> None:
    catalog = slowly.open(relay.port)
    relay.delay_s = LATE_S
    catalog.replace(inventory(1, FILES), NOW)
    assert catalog.apply([adding(2, make_file(500))], NOW)[0].result is DeltaResult.APPLIED

    assert held(catalog, [*FILES[:2], make_file(500)]) == [1000, 1001, 1500]
    assert catalog.touch([(NODE, state(2, [*FILES, make_file(500)]))], NOW) == [False]
    assert catalog.unreachable() == []


def test_a_server_that_is_too_slow_is_left_alone_until_it_is_quick_again(
    relay: SlowRelay, slowly: Slowly
) -> None:
    catalog = slowly.open(relay.port)
    catalog.replace(inventory(1, FILES), NOW)
    relay.delay_s = TOO_LATE_S
    for _ in range(5):
        # One of them waits for the time-out.
        with pytest.raises(UnavailableError, match="timed out"):
            held(catalog, FILES)

    relay.delay_s = 0
    slowly.clock.advance(REST)
    assert held(catalog, FILES) == [file.size_bytes for file in FILES]


def test_a_delta_whose_confirmation_came_too_late_is_not_applied_twice(
    relay: SlowRelay, slowly: Slowly, memcached: MemcachedServer
) -> None:
    catalog = slowly.open(relay.port)
    catalog.replace(inventory(1, FILES), NOW)
    relay.delay_s = TOO_LATE_S
    delta = adding(2, make_file(500))
    with pytest.raises(UnavailableError):
        catalog.apply([delta], NOW)
    relay.delay_s = 0
    slowly.clock.advance(REST)

    # The cache sends it again, as it got no answer; whether or not the first one was kept.
    again = catalog.apply([delta], NOW)[0].result
    assert again in {DeltaResult.APPLIED, DeltaResult.REPEATED}
    truth = state(2, [*FILES, make_file(500)])
    for one in (catalog, slowly.open(memcached.port)):
        assert one.touch([(NODE, truth)], NOW) == [False]
        assert held(one, [*FILES[:1], make_file(500)]) == [1000, 1500]


def test_one_slow_server_of_three_holds_up_its_own_nodes_only(
    memcached_factory: MemcachedFactory, slowly: Slowly
) -> None:
    with ExitStack() as stack:
        relays = [
            stack.enter_context(slow_relay(server.port))
            for server in memcached_factory.start_pool(3)
        ]
        catalog = slowly.open(*(relay.port for relay in relays))
        for key in NODES:
            catalog.replace(inventory(1, FILES, key=key), NOW)
        told = [(key, state(1, FILES)) for key in NODES]
        relays[0].delay_s = TOO_LATE_S

        unknown = catalog.touch(told, NOW)
        assert 0 < sum(unknown) < len(NODES)
        assert "timed out" in "".join(catalog.unreachable())
        # They move, and when it is quick again they come home.
        for (key, _), asked in zip(told, unknown, strict=True):
            if asked:
                catalog.replace(inventory(1, FILES, key=key), NOW)
        assert not any(catalog.touch(told, NOW))
        relays[0].delay_s = 0
        slowly.clock.advance(REST)
        assert catalog.touch(told, NOW) == unknown
        assert catalog.unreachable() == []
