"""Connections from the network leave descriptors for the operator and the database."""

from __future__ import annotations

import resource

import pytest

from pandawn_server.descriptors import RESERVED, connections_of_a_door, raise_limit
from pandawn_server.listeners import Listener, parse_listener

NETWORK = parse_listener("0.0.0.0:25443?auth=token&tls=on")
SOCKET = parse_listener("unix:/run/s")


@pytest.mark.parametrize(
    ("descriptors", "listeners"),
    [(1024, (NETWORK,)), (1024, (NETWORK, SOCKET)), (4096, (NETWORK, NETWORK, SOCKET))],
)
def test_all_doors_together_leave_the_reserve(
    descriptors: int, listeners: tuple[Listener, ...]
) -> None:
    doors = len([x for x in listeners if x is NETWORK])
    each = connections_of_a_door(descriptors, listeners, 20_000)
    assert each > 0
    assert 3 * each * doors <= descriptors - RESERVED


def test_what_the_settings_wish_is_never_exceeded() -> None:
    assert connections_of_a_door(524_288, (NETWORK,), 500) == 500
    assert connections_of_a_door(resource.RLIM_INFINITY, (NETWORK,), 500) == 500


def test_the_limit_is_raised_to_what_the_system_gives() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        assert raise_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
