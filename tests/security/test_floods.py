"""Strangers cost little: what they send is not kept, what they open ends, and those who may come get through.

Memory and descriptors are the server's own, not times on a clock.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from pandawn.broker.v1 import caller_pb2
from tests.fixtures.certificates import Authority
from tests.fixtures.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    connected,
    field,
    frame,
    frames,
    message,
    request,
)
from tests.fixtures.pilots import wait_until
from tests.fixtures.secure import SecureSite, make_site
from tests.fixtures.server import running_servers
from tests.fixtures.tokens import TokenIssuer

MIB = 1024**2
SUBMIT = "/pandawn.broker.v1.Broker/SubmitTask"
WHO_AM_I = "/pandawn.broker.v1.Broker/WhoAmI"
CANCEL = (8).to_bytes(4, "big")
STRANGERS = 10


@pytest.fixture(scope="module", params=["auth=token&tls=on", "auth=token+x509&tls=on"])
def target(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    token_issuer: TokenIssuer,
) -> Iterator[tuple[SecureSite, str]]:
    """A server behind gRPC's own TLS, and one behind a front of ours."""
    with running_servers() as start:
        site = make_site(tmp_path_factory.mktemp("floods") / "site", authority, token_issuer, start)
        yield (
            site,
            site.start(
                request.param,
                stranger_seconds="5",
                max_strangers_per_address=str(STRANGERS),
                log_level="info",
            ),
        )


def process(site: SecureSite) -> psutil.Process:
    return psutil.Process(site.servers[0].pid)


def check_serves(site: SecureSite, target: str) -> None:
    who: caller_pb2.Caller = site.who(target, token=site.token())
    assert who.user == "ann"


def test_a_message_of_a_stranger_is_refused_before_it_has_come(
    target: tuple[SecureSite, str],
) -> None:
    site, address = target
    before = process(site).memory_info().rss
    with ExitStack() as closing:
        for _ in range(STRANGERS - 1):
            connection = closing.enter_context(connected(address, site.ca_file))
            streams = range(1, 40, 2)
            for stream in streams:
                connection.sendall(
                    frame(HEADERS, END_HEADERS, stream, request(SUBMIT))
                    + frame(DATA, 0, stream, message(32 * MIB - 1) + bytes(1024))
                )
            # Each is answered, though its message has only begun.
            ended = set()
            for kind, flags, stream, _ in frames(connection):
                if kind == SETTINGS and not flags & ACK:
                    connection.sendall(frame(SETTINGS, ACK, 0))
                if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                    ended.add(stream)
                if ended == set(streams):
                    break
            assert ended == set(streams)
        assert process(site).memory_info().rss - before < 64 * MIB
        check_serves(site, address)


def test_connections_that_show_nothing_end(target: tuple[SecureSite, str]) -> None:
    site, address = target
    host, _, port = address.rpartition(":")
    check_serves(site, address)
    before = process(site).num_fds()
    with ExitStack() as closing:
        for _ in range(50):
            closing.enter_context(socket.create_connection((host, int(port))))
        idle = closing.enter_context(connected(address, site.ca_file))
        kinds = [kind for kind, *_ in frames(idle)]
        assert SETTINGS in kinds
        wait_until(lambda: process(site).num_fds() <= before + 3)
        check_serves(site, address)


def test_a_connection_that_showed_a_credential_stays(target: tuple[SecureSite, str]) -> None:
    site, address = target
    bearer = field("authorization", f"Bearer {site.token()}")
    with connected(address, site.ca_file) as good, connected(address, site.ca_file) as idle:
        good.sendall(
            frame(HEADERS, END_HEADERS, 1, request(WHO_AM_I, bearer))
            + frame(DATA, END_STREAM, 1, message(0))
        )
        # By the time that the other one has ended, this one has outlived it.
        assert list(frames(idle))
        good.sendall(
            frame(HEADERS, END_HEADERS, 3, request(WHO_AM_I, bearer))
            + frame(DATA, END_STREAM, 3, message(0))
        )
        answered = {stream for kind, _, stream, _ in first_ends(good, {1, 3}) if kind == HEADERS}
        assert answered == {1, 3}


def first_ends(
    connection: socket.socket, streams: set[int]
) -> Iterator[tuple[int, int, int, bytes]]:
    left = set(streams)
    for kind, flags, stream, payload in frames(connection):
        yield kind, flags, stream, payload
        if kind == HEADERS and flags & END_STREAM:
            left.discard(stream)
        if not left:
            return


def test_calls_begun_and_taken_back_at_once_do_not_reach_the_calls_of_others(
    target: tuple[SecureSite, str],
) -> None:
    site, address = target
    headers = request(WHO_AM_I)
    with connected(address, site.ca_file) as one, connected(address, site.ca_file) as two:
        for begin in range(1, 20_000, 100):
            burst = b"".join(
                frame(HEADERS, END_HEADERS, stream, headers) + frame(RST_STREAM, 0, stream, CANCEL)
                for stream in range(begin, begin + 100, 2)
            )
            for attacker in (one, two):
                try:
                    attacker.sendall(burst)
                except OSError:
                    continue  # it was ended, as well it might be
            if begin % 1000 == 1:
                check_serves(site, address)


@pytest.mark.parametrize("kind", ["continuation", "settings", "bomb"])
def test_floods_of_frames_end_their_own_connection(
    target: tuple[SecureSite, str], kind: str
) -> None:
    site, address = target
    before = process(site).memory_info().rss
    with connected(address, site.ca_file) as attacker:
        try:
            if kind == "continuation":
                attacker.sendall(frame(HEADERS, 0, 1, request(WHO_AM_I)))
                for _ in range(2000):
                    attacker.sendall(frame(CONTINUATION, 0, 1, field("x", "y" * 16_000)))
            elif kind == "settings":
                for _ in range(2000):
                    attacker.sendall(frame(SETTINGS, 0, 0) * 100)
            else:
                # One entry of the table, asked for thousands of times in each of many requests.
                entry = b"\x40\x01b\x7f\x81\x1e" + b"y" * 4000
                attacker.sendall(frame(HEADERS, END_HEADERS, 1, request(WHO_AM_I, entry)))
                for stream in range(3, 400, 2):
                    attacker.sendall(
                        frame(HEADERS, END_HEADERS, stream, request(WHO_AM_I, b"\xbe" * 12_000))
                    )
        except OSError:
            pass  # the server has ended it
        assert process(site).memory_info().rss - before < 64 * MIB
        check_serves(site, address)


def test_answers_that_nobody_reads_count_as_calls(target: tuple[SecureSite, str]) -> None:
    site, address = target
    bearer = field("authorization", f"Bearer {site.token('slow', 'slow')}")
    no_window = frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x00")
    refused = 0
    with ExitStack() as closing:
        connections = [closing.enter_context(connected(address, site.ca_file)) for _ in range(3)]
        for connection in connections:
            connection.sendall(no_window)
            for stream in range(1, 181, 2):
                connection.sendall(
                    frame(HEADERS, END_HEADERS, stream, request(WHO_AM_I, bearer))
                    + frame(DATA, END_STREAM, stream, message(0))
                )
        # Of 270 calls 200 wait to be read, and whoever comes after them is told at once.
        for connection in connections:
            connection.settimeout(5)
            try:
                for kind, flags, _, _ in frames(connection):
                    refused += kind == HEADERS and bool(flags & END_STREAM)
                    if refused == 70:
                        break
            except TimeoutError:
                continue
        assert refused == 70
        check_serves(site, address)


def test_garbage_in_place_of_handshakes_fills_no_log(target: tuple[SecureSite, str]) -> None:
    site, address = target
    host, _, port = address.rpartition(":")
    log: Path = site.servers[0].log_file
    before = log.stat().st_size
    for _ in range(300):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(os.urandom(64))
            connection.shutdown(socket.SHUT_WR)
            try:
                connection.recv(100)
            except ConnectionError:
                continue
    assert log.stat().st_size - before < 10_000
    check_serves(site, address)


def test_a_stranger_does_not_hold_the_methods_that_anybody_may_call(
    target: tuple[SecureSite, str],
) -> None:
    site, address = target
    watch = "/grpc.health.v1.Health/Watch"
    with site.channel(address) as channel:
        make: Any = channel.unary_stream(watch)
        streams = [make(b"", timeout=60) for _ in range(20)]
        codes = [first_code(stream) for stream in streams]
        assert codes.count(None) == 4
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == len(streams) - 4
        for stream in streams:
            stream.cancel()
    check_serves(site, address)


def first_code(stream: Iterator[Any]) -> grpc.StatusCode | None:
    """How a stream ended before it gave anything; None if it gave something."""
    try:
        next(stream)
    except grpc.RpcError as error:
        return error.code()
    return None
