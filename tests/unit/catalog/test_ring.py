"""Consistent hashing spreads nodes evenly and moves few of them."""

from collections import Counter

import pytest

from pandawn_server.catalog.ring import Ring
from pandawn_server.catalog.store import route_of
from pandawn_server.domain.catalog.inventory import NodeKey

SERVERS = ["cache1:11211", "cache2:11211", "cache3:11211"]
ROUTES = [route_of(NodeKey("SITE", f"wn{number:04d}.example.org")) for number in range(3000)]


def homes(servers: list[str]) -> list[str]:
    ring = Ring(servers)
    return [servers[ring.first(route)] for route in ROUTES]


def test_each_server_has_about_its_share() -> None:
    for count in Counter(homes(SERVERS)).values():
        assert 700 < count < 1300


def test_the_order_in_which_servers_are_named_does_not_matter() -> None:
    assert homes(SERVERS) == homes(SERVERS[::-1])


@pytest.mark.parametrize("lost", SERVERS)
def test_losing_a_server_moves_its_nodes_only_and_to_all_others(lost: str) -> None:
    left = [server for server in SERVERS if server != lost]
    moved: Counter[str] = Counter()
    for before, after in zip(homes(SERVERS), homes(left), strict=True):
        if before == lost:
            moved[after] += 1
        else:
            assert after == before
    assert min(moved.values()) > 200


def test_a_walk_visits_each_server_once_and_begins_at_home() -> None:
    ring = Ring(SERVERS)
    for route in ROUTES[:50]:
        walked = list(ring.walk(route))
        assert sorted(walked) == [0, 1, 2]
        assert walked[0] == ring.first(route)


def test_the_walk_goes_where_the_node_would_live_without_the_servers_before() -> None:
    ring, smaller = Ring(SERVERS), Ring(SERVERS[1:])
    for route in ROUTES[:200]:
        walked = [SERVERS[index] for index in ring.walk(route)]
        if walked[0] == SERVERS[0]:
            assert SERVERS[1:][smaller.first(route)] == walked[1]
