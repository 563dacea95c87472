"""Opens the catalog that a URL names.

    memory:                                  in this process
    memcached://HOST[:PORT][,HOST[:PORT]...] in a pool of memcached servers, by default at port 11211

Options follow after a `?`, as in `memcached://cache1,cache2?silence_hours=48&timeout_ms=1000`:
see `CatalogOptions`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from urllib.parse import parse_qsl

from pandawn_server.catalog.catalog import Catalog, Observe, unobserved
from pandawn_server.catalog.lifetimes import Lifetimes
from pandawn_server.catalog.member import Timeouts
from pandawn_server.catalog.memcached import MemcachedStore
from pandawn_server.catalog.memory import MemoryStore
from pandawn_server.catalog.pins import PinBook
from pandawn_server.catalog.store import Store

DEFAULT_PORT = 11211

_SERVER = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s,:/\[\]@]+)(:(?P<port>\d{1,5}))?")

_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class CatalogOptions:
    """Options of a catalog URL; all are positive numbers.

    `silence_hours`: a node silent for this long is unknown. `max_files`: files whose key and size this process
    caches, 24 bytes each. `memory_mib`: maximum size of all values of `memory:`. `connect_timeout_ms` and
    `timeout_ms`: see `Timeouts`.
    """

    silence_hours: float = 24
    max_files: float = 8_000_000
    memory_mib: float = 512
    connect_timeout_ms: float = 500
    timeout_ms: float = 1000


@dataclass(frozen=True, slots=True)
class CatalogUrl:
    """A parsed catalog URL; `servers` is empty for `memory:`."""

    servers: tuple[tuple[str, int], ...]
    options: CatalogOptions


def parse_catalog_url(url: str) -> CatalogUrl:
    """Parses a URL. Raises `ValueError` with what is wrong."""
    place, _, query = url.partition("?")
    options = _options(query)
    if place in {"memory:", "memory://"}:
        return CatalogUrl((), options)
    scheme, separator, listed = place.partition("://")
    if scheme != "memcached" or not separator:
        raise ValueError(f"{url!r} is not memory: or memcached://HOST:PORT,HOST:PORT...")
    servers = tuple(_server(part) for part in listed.removesuffix("/").split(","))
    if len(set(servers)) < len(servers):
        raise ValueError(f"{url!r} names a server twice")
    return CatalogUrl(servers, options)


def open_catalog(url: str, pins: PinBook | None = None, observe: Observe = unobserved) -> Catalog:
    """Opens a catalog without contacting its servers; call `Catalog.unreachable` for that.

    Raises `ValueError` for an invalid URL.
    """
    parsed = parse_catalog_url(url)
    options = parsed.options
    silence = timedelta(hours=options.silence_hours)
    store: Store
    if parsed.servers:
        timeouts = Timeouts(
            connect=timedelta(milliseconds=options.connect_timeout_ms),
            answer=timedelta(milliseconds=options.timeout_ms),
        )
        store = MemcachedStore(parsed.servers, silence, timeouts)
    else:
        store = MemoryStore(silence, int(options.memory_mib * _MEBIBYTE))
    lifetimes = Lifetimes(store, silence)
    return Catalog(store, lifetimes, int(options.max_files), pins, observe)


def _server(text: str) -> tuple[str, int]:
    found = _SERVER.fullmatch(text)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    if found is None or not 0 < port < 65536:
        # The text may contain a password, which has no meaning here and must not be logged.
        shown = text.rpartition("@")[2]
        raise ValueError(f"{shown!r} is not HOST:PORT of a memcached server")
    return found["host"].strip("[]").lower(), port


def _options(query: str) -> CatalogOptions:
    options = CatalogOptions()
    known = [field.name for field in fields(CatalogOptions)]
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"catalog option {name!r} is not one of {', '.join(known)}")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ValueError(f"catalog option {name}={text!r} is not a number above zero")
        options = replace(options, **{name: value})
    return options
