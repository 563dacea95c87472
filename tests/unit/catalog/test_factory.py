"""Catalog URLs: what they mean, and what is wrong with wrong ones."""

from datetime import timedelta

import pytest

from pandawn_server.catalog.factory import CatalogOptions, open_catalog, parse_catalog_url
from pandawn_server.catalog.store import part_key, route_of
from pandawn_server.domain.catalog.inventory import NodeKey
from tests.fixtures.catalog import NOW, adding, held, make_file, make_files


@pytest.mark.parametrize("url", ["memory:", "memory://", "memory:?silence_hours=1"])
def test_a_catalog_in_this_process_needs_no_server(url: str) -> None:
    catalog = open_catalog(url)
    assert catalog.unreachable() == []
    catalog.apply([adding(1, make_file(1))], NOW)
    assert held(catalog, make_files(1, 2)) == [1001, None]
    catalog.close()


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("memcached://cache", (("cache", 11211),)),
        ("memcached://Cache.Example.org:11212/", (("cache.example.org", 11212),)),
        ("memcached://10.0.0.1:1,10.0.0.2:2,c", (("10.0.0.1", 1), ("10.0.0.2", 2), ("c", 11211))),
        ("memcached://[::1]:11211,[FE80::1]", (("::1", 11211), ("fe80::1", 11211))),
    ],
)
def test_servers_are_read_with_their_ports(url: str, servers: tuple[tuple[str, int], ...]) -> None:
    assert parse_catalog_url(url).servers == servers


def test_options_are_read() -> None:
    url = "memcached://c?silence_hours=0.5&timeout_ms=100&connect_timeout_ms=50&max_files=10"
    assert parse_catalog_url(url).options == CatalogOptions(
        silence_hours=0.5, timeout_ms=100, connect_timeout_ms=50, max_files=10
    )


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "is not memory: or memcached"),
        ("redis://cache", "is not memory: or memcached"),
        ("memcached:cache", "is not memory: or memcached"),
        ("memcached://", "is not HOST:PORT"),
        ("memcached://cache:0", "is not HOST:PORT"),
        ("memcached://cache:65536", "is not HOST:PORT"),
        ("memcached://cache:x", "is not HOST:PORT"),
        ("memcached://user:secret@cache:1", "is not HOST:PORT"),
        ("memcached://a,,b", "is not HOST:PORT"),
        ("memcached://a b", "is not HOST:PORT"),
        ("memcached://a,A:11211", "names a server twice"),
        ("memory:?size=3", "'size' is not one of silence_hours"),
        ("memory:?silence_hours=0", "is not a number above zero"),
        ("memory:?silence_hours=nan", "is not a number above zero"),
        ("memory:?silence_hours=inf", "is not a number above zero"),
        ("memory:?silence_hours=", "is not a number above zero"),
    ],
)
def test_a_wrong_url_is_refused_with_what_is_wrong(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        open_catalog(url)


def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT") as refused:
        parse_catalog_url("memcached://user:secret@cache:11211")
    assert "secret" not in str(refused.value)


def test_a_catalog_whose_servers_are_away_opens_and_says_which() -> None:
    # Port 1 on loopback: nobody listens there.
    catalog = open_catalog("memcached://127.0.0.1:1")
    assert catalog.unreachable() == ["memcached 127.0.0.1:1 does not answer: Connection refused"]
    catalog.close()


def test_keys_are_short_and_plain_whatever_the_names_are() -> None:
    for name in ("x" * 300, "\r\nflush_all\r\n", "ü" * 200, ""):
        key = part_key(route_of(NodeKey(name, name)), 2**64 - 1)
        assert len(key) <= 250
        assert key.isascii()
        assert key.isprintable()
        assert " " not in key


def test_the_silence_is_a_day_unless_said_otherwise() -> None:
    assert timedelta(hours=CatalogOptions().silence_hours) == timedelta(days=1)
