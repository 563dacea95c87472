"""From where a call comes, as gRPC and proxies say it."""

from ipaddress import ip_network

import pytest

from pandawn_server.wire.auth.peers import address_of, forwarded_peer

HEADER = "x-forwarded-for"
PROXIES = [ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.5:33", "10.0.0.5"),
        ("ipv6:[::1]:33", "::1"),
        ("ipv6:%5B2001:db8::7%5D:33", "2001:db8::7"),
        # An IPv4 client of a socket for both families.
        ("ipv6:[::ffff:10.0.0.5]:33", "10.0.0.5"),
        ("ipv6:%5B::ffff:10.0.0.5%5D:33", "10.0.0.5"),
    ],
)
def test_an_address_is_read_whatever_its_clothes(peer: str, address: str) -> None:
    assert str(address_of(peer)) == address


@pytest.mark.parametrize(
    "peer", ["", "unix:", "unix:/run/s", "ipv6:[fe80::1%25eth0]:1", "ipv4:host:1", "ipv4:10.0.0:1"]
)
def test_what_is_no_address_is_none(peer: str) -> None:
    assert address_of(peer) is None


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        # Whoever is no proxy speaks for itself, whatever it says.
        ("ipv4:10.0.0.5:33", "10.9.9.9", "ipv4:10.0.0.5:33"),
        ("ipv4:10.0.0.5:33", "", "ipv4:10.0.0.5:33"),
        ("ipv4:192.0.2.1:33", "10.0.0.5", "ipv4:10.0.0.5:0"),
        ("ipv6:[::ffff:192.0.2.1]:33", "10.0.0.5", "ipv4:10.0.0.5:0"),
        ("ipv6:[2001:db8::1]:33", "2001:470::9", "ipv6:[2001:470::9]:0"),
        ("ipv4:192.0.2.1:33", "::ffff:10.0.0.5", "ipv4:10.0.0.5:0"),
        # What the client itself wrote stands before what the proxies added.
        ("ipv4:192.0.2.1:33", "10.7.7.7, 10.0.0.5", "ipv4:10.0.0.5:0"),
        ("ipv4:192.0.2.1:33", "10.7.7.7, 10.0.0.5, 192.0.2.9", "ipv4:10.0.0.5:0"),
        ("ipv4:192.0.2.1:33", "nonsense, 10.0.0.5", "ipv4:10.0.0.5:0"),
        # A proxy that does not say for whom is not its own client.
        ("ipv4:192.0.2.1:33", "", ""),
        ("ipv4:192.0.2.1:33", "192.0.2.9", ""),
        ("ipv4:192.0.2.1:33", "10.0.0.5, nonsense", ""),
        ("ipv4:192.0.2.1:33", "10.0.0.5,", ""),
        ("ipv4:192.0.2.1:33", "unknown", ""),
        ("ipv4:192.0.2.1:33", "10.0.0.5, " + "1" * 2000, ""),
        ("unix:", "10.0.0.5", "unix:"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, told: str, client: str) -> None:
    peer_of = forwarded_peer(PROXIES, HEADER, trust_socket=False)
    assert peer_of(peer, {HEADER: told} if told else {}) == client


def test_a_proxy_at_a_socket_file_is_believed_where_that_is_the_way() -> None:
    peer_of = forwarded_peer([], HEADER, trust_socket=True)
    assert peer_of("unix:", {HEADER: "10.0.0.5"}) == "ipv4:10.0.0.5:0"
    assert peer_of("unix:", {}) == ""
