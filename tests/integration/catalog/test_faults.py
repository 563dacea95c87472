"""The catalog on real memcached servers that are stopped, emptied, frozen, full, or not memcached."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from threading import Event, Thread

import pytest

from pandawn_server.catalog.member import Timeouts
from pandawn_server.catalog.memcached import MemcachedStore
from pandawn_server.catalog.store import part_key, route_of
from pandawn_server.domain.catalog.inventory import CachedFile, DeltaResult, NodeKey
from pandawn_server.domain.errors import UnavailableError
from tests.fixtures.catalog import (
    EPOCH,
    NODE,
    NOW,
    SILENCE,
    ManualClock,
    Opener,
    adding,
    catalog_on,
    held,
    inventory,
    is_known,
    make_file,
    make_files,
    ref,
    state,
    talk,
)
from tests.fixtures.memcached import MemcachedFactory, MemcachedServer
from tests.fixtures.ports import LOOPBACK

FILES = make_files(*range(100))
NODES = [NodeKey("SITE", f"wn{number:02d}.example.org") for number in range(40)]
# Longer than a lost server is ever left alone.
REST = timedelta(minutes=1)


def counter(server: MemcachedServer, name: str) -> int:
    lines = talk(server, "stats", "END\r\n").splitlines()
    return int(next(line.split()[2] for line in lines if line.split()[1] == name))


# One server


def test_a_stopped_server_is_named_with_the_cause_and_found_again_when_it_is_back(
    memcached_factory: MemcachedFactory, opened: Opener
) -> None:
    server, clock = memcached_factory.start(), ManualClock()
    catalog = opened([server], clock)
    catalog.replace(inventory(1, FILES), NOW)
    server.stop()

    with pytest.raises(UnavailableError) as failed:
        held(catalog, FILES)
    assert failed.value.reason == "CATALOG_UNAVAILABLE"
    assert f"memcached {server.address} does not answer: " in failed.value.message
    assert "refused" in failed.value.message
    assert failed.value.metadata == {"servers": server.address}
    assert failed.value.retry_after is not None
    assert catalog.unreachable() == [failed.value.message]
    for call in (
        lambda: catalog.apply([adding(2, make_file(1))], NOW),
        lambda: catalog.replace(inventory(2, FILES), NOW),
        lambda: catalog.flush(NODE, EPOCH, NOW),
        lambda: catalog.touch([(NODE, state(1, FILES))], NOW),
        lambda: catalog.summaries([NODE]),
        lambda: catalog.list_files(NODE, None, 1),
    ):
        with pytest.raises(UnavailableError):
            call()

    server.start()
    clock.advance(REST)
    # Empty, as memcached is after a start: the node is asked, and all is as before.
    assert catalog.touch([(NODE, state(1, FILES))], NOW) == [True]
    catalog.replace(inventory(1, FILES), NOW)
    assert held(catalog, FILES) == [file.size_bytes for file in FILES]
    assert catalog.unreachable() == []


def test_a_restart_between_two_calls_is_not_an_error(
    memcached_factory: MemcachedFactory, opened: Opener
) -> None:
    server = memcached_factory.start()
    catalog = opened([server])
    catalog.replace(inventory(1, FILES), NOW)
    # Several idle connections, all of them dead after the restart.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: held(catalog, FILES), range(8)))
    server.kill()
    server.start()

    assert not is_known(catalog)
    assert catalog.apply([adding(2, make_file(1))], NOW)[0].result is (
        DeltaResult.INVENTORY_REQUESTED
    )
    assert catalog.touch([(NODE, state(2, FILES))], NOW) == [True]
    catalog.replace(inventory(2, FILES), NOW)
    assert held(catalog, FILES[:1]) == [1000]


def test_a_frozen_server_is_given_up_after_a_time_out_and_used_again_when_it_thaws(
    memcached_factory: MemcachedFactory, opened: Opener
) -> None:
    server, clock = memcached_factory.start(), ManualClock()
    catalog = opened([server], clock)
    catalog.replace(inventory(1, FILES), NOW)
    server.freeze()

    with pytest.raises(UnavailableError, match="timed out"):
        held(catalog, FILES)
    clock.advance(REST)
    with pytest.raises(UnavailableError, match="timed out"):
        catalog.apply([adding(2, make_file(500))], NOW)
    server.thaw()
    clock.advance(REST)

    assert held(catalog, FILES) == [file.size_bytes for file in FILES]
    assert catalog.apply([adding(2, make_file(500))], NOW)[0].result is DeltaResult.APPLIED


def test_reads_do_not_write(memcached: MemcachedServer, opened: Opener) -> None:
    catalog = opened([memcached])
    catalog.replace(inventory(1, FILES), NOW)
    catalog.touch([(NODE, state(1, FILES))], NOW)
    names = ("cmd_set", "cmd_touch", "cas_hits", "cas_badval")
    before = [counter(memcached, name) for name in names]
    reads = counter(memcached, "cmd_get")

    for _ in range(5):
        held(catalog, FILES)
        catalog.summaries([NODE])
        catalog.touch([(NODE, state(1, FILES))], NOW)
        catalog.list_files(NODE, None, 10)
    assert [counter(memcached, name) for name in names] == before
    # One value a call, and the parts once for the entries and once for the view.
    assert counter(memcached, "cmd_get") - reads <= 20 + 2


def test_a_server_that_evicts_makes_nodes_unknown_and_never_wrong(
    memcached_factory: MemcachedFactory, opened: Opener
) -> None:
    server = memcached_factory.start("--memory-limit=1", "--max-item-size=524288")
    catalog = opened([server])
    keys = [NodeKey("SITE", f"wn{number}") for number in range(600)]
    for number, key in enumerate(keys):
        files = make_files(*range(number, number + 300))
        catalog.replace(inventory(1, files, key=key), NOW)
    assert counter(server, "evictions") > 0

    fresh = opened([server])
    probes = [[ref(make_file(n + 299)), ref(make_file(n + 300))] for n in range(len(keys))]
    answers = fresh.holdings(list(zip(keys, probes, strict=True)))
    assert None in answers
    for number, answer in enumerate(answers):
        assert answer in (None, [1299 + number, None])
    lost = keys[answers.index(None)]
    own = make_files(*range(300))
    assert fresh.touch([(lost, state(1, own))], NOW) == [True]
    fresh.replace(inventory(1, own, key=lost), NOW)
    assert held(fresh, own, key=lost) == [file.size_bytes for file in own]


def test_an_inventory_that_the_server_refuses_to_store_is_an_error_that_says_so(
    memcached_factory: MemcachedFactory, opened: Opener
) -> None:
    server = memcached_factory.start("--max-item-size=2048", "--extended=slab_chunk_max=1024")
    catalog = opened([server])

    # Random names do not get smaller by packing.
    draw = Random(1)
    files = [CachedFile(f"{draw.getrandbits(512):x}", 1) for _ in range(100)]
    with pytest.raises(UnavailableError, match="has no room") as failed:
        catalog.replace(inventory(1, files), NOW)
    assert failed.value.metadata["server"] == server.address
    assert catalog.apply([adding(1, *files)], NOW)[0].result is DeltaResult.INVENTORY_REQUESTED
    # The server is well, and others are served.
    assert catalog.unreachable() == []
    catalog.apply([adding(1, make_file(1), key=NODES[0])], NOW)
    assert held(catalog, make_files(1), key=NODES[0]) == [1001]


def test_values_die_with_the_silence_and_live_on_with_a_contact(
    memcached: MemcachedServer, opened: Opener
) -> None:
    clock = ManualClock()
    catalog = opened([memcached], clock)
    catalog.replace(inventory(1, FILES), NOW)
    route = route_of(NODE)
    parts = [
        part_key(route, int(line.split("-")[1].split()[0], 16))
        for line in talk(memcached, "lru_crawler metadump all", "END\r\n").splitlines()
        if "-" in line.split()[0]
    ]
    assert parts

    def lives() -> list[int]:
        answers = [talk(memcached, f"mg {key} t", "\r\n") for key in (route, *parts)]
        return [int(answer.removeprefix("HD t")) for answer in answers]

    assert all(0 < life <= SILENCE.total_seconds() for life in lives())
    for key in (route, *parts):
        talk(memcached, f"touch {key} 100", "\r\n")
    catalog.touch([(NODE, state(1, FILES))], NOW)
    assert max(lives()) <= 100
    clock.advance(SILENCE / 4)
    catalog.touch([(NODE, state(1, FILES))], NOW)
    assert min(lives()) > 1000


def test_a_very_long_silence_is_not_taken_for_a_date(
    memcached: MemcachedServer, opened: Opener
) -> None:
    """Memcached reads more than 30 days as seconds since 1970, which are long over."""
    catalog = opened.at(memcached.url + "?silence_hours=2400")
    catalog.replace(inventory(1, FILES), NOW)
    assert held(catalog, FILES[:1]) == [1000]
    life = talk(memcached, f"mg {route_of(NODE)} t", "\r\n")
    assert int(life.removeprefix("HD t")) > 90 * 24 * 3600


def test_a_value_that_somebody_else_wrote_makes_the_node_unknown(
    memcached: MemcachedServer, opened: Opener
) -> None:
    catalog = opened([memcached])
    for value in ("x", "PH\x01\x00" + "y" * 100):
        talk(memcached, f"set {route_of(NODE)} 0 0 {len(value)}\r\n{value}", "\r\n")
        assert not is_known(catalog)
        assert catalog.touch([(NODE, state(1, FILES))], NOW) == [True]
        catalog.replace(inventory(1, FILES), NOW)
        assert held(catalog, FILES[:1]) == [1000]


def test_a_name_that_stands_for_several_addresses_is_tried_at_all_of_them(
    memcached: MemcachedServer, opened: Opener
) -> None:
    """`localhost` is often ::1 first, where memcached does not listen."""
    catalog = opened.at(f"memcached://localhost:{memcached.port}")
    assert catalog.unreachable() == []


# Not memcached


@contextmanager
def listener(answer: bytes | None) -> Iterator[tuple[int, list[bytes]]]:
    """A server that takes connections and gives one answer, or none and holds the line."""
    heard: list[bytes] = []
    stopping = Event()
    with socket.create_server((LOOPBACK, 0)) as server:
        server.settimeout(0.05)

        def serve() -> None:
            links: list[socket.socket] = []
            while not stopping.is_set():
                try:
                    link, _ = server.accept()
                except TimeoutError:
                    continue
                links.append(link)
                heard.append(link.recv(100))
                if answer is not None:
                    link.sendall(answer)
            for link in links:
                link.close()

        thread = Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            stopping.set()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"VALUE nonsense\r\n",
        b"VALUE other 0 1\r\nx\r\nEND\r\n",
        b"ERROR\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_a_server_that_does_not_speak_memcached_is_unavailable(
    answer: bytes, opened: Opener
) -> None:
    with listener(answer) as (port, _):
        catalog = opened.at(f"memcached://{LOOPBACK}:{port}?timeout_ms=2000")
        with pytest.raises(UnavailableError, match=f"{LOOPBACK}:{port} does not answer: ."):
            catalog.summaries([NODE])


def test_a_dead_server_costs_one_time_out_and_not_one_a_call(opened: Opener) -> None:
    with listener(None) as (port, heard):
        clock = ManualClock()
        store = MemcachedStore(
            [(LOOPBACK, port)], SILENCE, Timeouts(answer=timedelta(milliseconds=100)), clock
        )
        catalog = opened.keep(catalog_on(store, clock))
        for _ in range(20):
            with pytest.raises(UnavailableError):
                catalog.summaries([NODE])
        assert len(heard) == 1
        clock.advance(REST)
        with ThreadPoolExecutor(4) as pool:
            for _ in range(8):
                failed = pool.submit(catalog.summaries, [NODE]).exception()
                assert isinstance(failed, UnavailableError)
        assert len(heard) == 2
