"""Connections of strangers end when they are too many or show nothing for too long; others are left alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest
import structlog

from pandawn_server.wire.auth.connections import (
    LOG_INTERVAL_S,
    ConnectionLimits,
    Connections,
)
from pandawn_server.wire.auth.own_sockets import OwnSockets, Peer

LIMITS = ConnectionLimits(of_strangers=3, of_address=5, time_to_show=timedelta(seconds=30))


class Sockets:
    """Connections that a test makes up, by number: (address, port)."""

    def __init__(self) -> None:
        self.open: dict[int, Peer] = {}
        self.cut_off: list[int] = []

    def come(self, address: str, *numbers: int) -> None:
        for number in numbers:
            self.open[number] = Peer(ip_address(address), 1000 + number)

    def look(self) -> Mapping[int, Peer]:
        return dict(self.open)

    def cut(self, number: int) -> None:
        self.cut_off.append(number)
        del self.open[number]


def test_a_connection_that_shows_nothing_ends_after_its_time_and_one_that_did_stays() -> None:
    connections, sockets = Connections(LIMITS), Sockets()
    sockets.come("10.0.0.1", 1, 2)
    connections.look(sockets, 0.0)
    connections.shown("ipv4:10.0.0.1:1002")
    connections.look(sockets, 29.0)
    assert sockets.cut_off == []
    connections.look(sockets, 31.0)
    assert sockets.cut_off == [1]
    connections.look(sockets, 3600.0)
    assert sockets.cut_off == [1]


@pytest.mark.parametrize("peer", ["ipv6:%5B2001:db8::7%5D:1001", "ipv6:[2001:db8::7]:1001"])
def test_an_address_of_ipv6_is_known_however_it_is_written(peer: str) -> None:
    connections, sockets = Connections(LIMITS), Sockets()
    sockets.come("2001:db8::7", 1)
    connections.shown(peer)
    connections.look(sockets, 0.0)
    connections.look(sockets, 100.0)
    assert sockets.cut_off == []


def test_the_newest_strangers_of_an_address_go_when_there_are_too_many() -> None:
    connections, sockets = Connections(LIMITS), Sockets()
    sockets.come("10.0.0.1", 1, 2)
    connections.look(sockets, 0.0)
    sockets.come("10.0.0.1", 3, 4, 5)
    sockets.come("10.0.0.2", 6)
    connections.look(sockets, 1.0)
    assert sorted(sockets.cut_off) == [4, 5]


def test_who_has_shown_a_credential_stays_when_an_address_has_too_many() -> None:
    connections, sockets = Connections(LIMITS), Sockets()
    sockets.come("10.0.0.1", 1, 2, 3, 4, 5, 6)
    for number in (3, 4, 5, 6):
        connections.shown(f"ipv4:10.0.0.1:{1000 + number}")
    connections.look(sockets, 0.0)
    assert sockets.cut_off == [2]


def test_connections_of_a_declared_proxy_are_those_of_all_the_world() -> None:
    connections, sockets = Connections(LIMITS, [ip_network("10.9.0.0/16")]), Sockets()
    sockets.come("10.9.0.1", *range(20))
    connections.look(sockets, 0.0)
    connections.look(sockets, 100.0)
    assert sockets.cut_off == []


def test_a_flood_makes_a_line_an_interval_with_the_worst_addresses() -> None:
    connections, sockets = Connections(LIMITS), Sockets()
    with structlog.testing.capture_logs() as lines:
        for second in range(int(LOG_INTERVAL_S)):
            sockets.come("10.0.0.1", *range(second * 100, second * 100 + 50))
            connections.look(sockets, float(second))
        connections.look(sockets, LOG_INTERVAL_S)
    assert len(lines) == 2
    assert list(lines[0]["most"]) == ["10.0.0.1"]


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, listener.getsockname()[1]


def test_the_kernel_tells_of_accepted_connections_and_of_no_others() -> None:
    with listening() as (ours, port), listening() as (other, other_port), ExitStack() as closing:
        outgoing = closing.enter_context(socket.create_connection(("127.0.0.1", port)))
        accepted = closing.enter_context(ours.accept()[0])
        closing.enter_context(socket.create_connection(("127.0.0.1", other_port)))
        closing.enter_context(other.accept()[0])
        sockets = OwnSockets([port])
        expected = Peer(ip_address("127.0.0.1"), outgoing.getsockname()[1])
        (number,) = (n for n, peer in sockets.look().items() if peer == expected)
        assert sockets.look() == {number: expected}
        sockets.cut(number)
        assert outgoing.recv(10) == b""
        assert accepted.recv(10) == b""


def test_a_number_that_went_to_another_file_is_left_alone() -> None:
    with listening() as (ours, port), ExitStack() as closing:
        first = closing.enter_context(socket.create_connection(("127.0.0.1", port)))
        accepted = ours.accept()[0]
        sockets = OwnSockets([port])
        (number,) = sockets.look()
        descriptor = accepted.fileno()
        accepted.close()
        other, far = socket.socketpair()
        closing.enter_context(other)
        closing.enter_context(far)
        assert descriptor in (other.fileno(), far.fileno())
        sockets.cut(number)
        other.sendall(b"well")
        assert far.recv(4) == b"well"
        assert first.recv(1) == b""
