"""TLS on real sockets: gRPC's own for plain certificates, and the front for proxies and for mixed clients."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import grpc
import grpc.aio
import pytest

from pandawn_server.wire.auth import tls_files
from pandawn_server.wire.auth.front import TlsFront
from pandawn_server.wire.auth.private_directory import make_private_directory
from pandawn_server.wire.auth.tls_files import TlsFiles, TlsFilesError, server_credentials
from tests.fixtures.certificates import DAY, LIMITED, Authority, Credential, self_signed
from tests.fixtures.fronts import ECHO, STREAM, WHO, call, make_files, serve_echo
from tests.fixtures.ports import LOOPBACK

JANE = "/DC=org/DC=example/OU=People/CN=Jane Doe"
ROOT = "/DC=org/DC=example/CN=Test CA"


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at for each connection."""
    monkeypatch.setattr(tls_files, "LOOK_INTERVAL_S", 0.0)


async def test_grpc_itself_takes_plain_certificates_and_nothing_else(
    authority: Authority, tmp_path: Path
) -> None:
    files = make_files(tmp_path, authority)
    credentials = server_credentials(files, require_certificate=True)
    async with serve_echo(authority, credentials=credentials) as echo:
        jane = authority.person()
        assert await echo.who(jane) == JANE
        assert await echo.is_refused()
        assert await echo.is_refused(Authority().person())
        # The reason for the front: BoringSSL knows no proxies.
        assert await echo.is_refused(jane.proxy())


async def test_without_client_certificates_grpc_asks_for_none(
    authority: Authority, tmp_path: Path
) -> None:
    files = make_files(tmp_path, authority)
    credentials = server_credentials(files, require_certificate=False)
    async with serve_echo(authority, credentials=credentials) as echo:
        assert await echo.who() == ""
        assert await echo.who(authority.person()) == ""


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("how", ["grpc", "front"])
async def test_a_renewed_certificate_is_used_without_a_restart(
    authority: Authority, tmp_path: Path, how: str
) -> None:
    files = make_files(tmp_path, authority)
    front = TlsFront(files) if how == "front" else None
    credentials = server_credentials(files, require_certificate=False)
    async with serve_echo(authority, front=front, credentials=credentials) as echo:
        await echo.who()
        other = Authority("Next CA")
        other.host("localhost").write(tmp_path, "server")
        async with echo.channel(trusted=other) as channel:
            await call(channel, WHO)
        assert await echo.is_refused(), "the old authority vouches for nothing any more"


@pytest.mark.usefixtures("_hurried")
def test_a_certificate_whose_key_has_not_come_yet_is_not_used(
    authority: Authority, tmp_path: Path
) -> None:
    files = make_files(tmp_path, authority)
    before = files.current()
    renewed = authority.host("localhost")
    (tmp_path / "server.pem").write_bytes(renewed.chain_pem)
    assert files.current() is before
    (tmp_path / "server.key").write_bytes(renewed.key_pem)
    assert files.current().chain_pem == renewed.chain_pem
    (tmp_path / "server.key").unlink()
    assert files.current().chain_pem == renewed.chain_pem


@pytest.mark.parametrize("what", ["server.pem", "server.key", "clients.pem"])
@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_files_that_cannot_be_used_are_named(
    authority: Authority, tmp_path: Path, what: str, content: bytes | None
) -> None:
    make_files(tmp_path, authority)
    (tmp_path / what).unlink()
    if content is not None:
        (tmp_path / what).write_bytes(content)
    with pytest.raises(TlsFilesError, match=what):
        TlsFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "clients.pem")


def test_a_directory_of_authorities_is_read_without_its_broken_files(
    authority: Authority, tmp_path: Path
) -> None:
    make_files(tmp_path, authority)
    directory = tmp_path / "certificates"
    directory.mkdir()
    authority.write(directory / "a.pem")
    (directory / "a1b2c3d4.0").symlink_to("a.pem")
    (directory / "broken.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nx\n")
    (directory / "a1b2c3d4.r0").write_bytes(authority.revocation_list())
    files = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key", directory)
    assert files.current().authorities == (authority.certificate,)


async def test_the_front_takes_whoever_can_be_verified_and_whoever_shows_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    front = TlsFront(make_files(tmp_path, authority), accept_proxies=True)
    async with serve_echo(authority, front=front) as echo:
        jane = authority.person()
        assert await echo.who(jane) == f"{JANE}|{ROOT}"
        assert await echo.who() == ""
        for policy in ("1.3.6.1.5.5.7.21.1", LIMITED):
            proxy = jane.proxy(policy=policy, common_names=("1",)).proxy(common_names=("2",))
            assert await echo.who(proxy) == f"{JANE}/CN=1/CN=2|{JANE}/CN=1|{JANE}|{ROOT}"


async def test_an_authority_below_another_is_followed(tmp_path: Path) -> None:
    root = Authority()
    below = Authority("Below", root)
    front = TlsFront(make_files(tmp_path, root), accept_proxies=True)
    async with serve_echo(root, front=front) as echo:
        shown = await echo.who(below.person().proxy(common_names=("1",)))
        assert shown == f"{JANE}/CN=1|{JANE}|/DC=org/DC=example/CN=Below|{ROOT}"


_BAD: dict[str, Callable[[Authority], Credential]] = {
    "self-signed": lambda _: self_signed(),
    "another CA": lambda _: Authority().person(),
    "a proxy of another CA's": lambda _: Authority().person().proxy(),
    "expired": lambda ca: ca.person(begin=_in(-2), end=_in(-1)),
    "not yet valid": lambda ca: ca.person(begin=_in(1), end=_in(2)),
    "an expired proxy": lambda ca: ca.person().proxy(begin=_in(-1), end=_in(-0.5)),
    "a proxy not yet valid": lambda ca: ca.person().proxy(begin=_in(0.5)),
    "a proxy of an expired certificate": lambda ca: ca.person(begin=_in(-2), end=_in(-1)).proxy(),
    "a proxy signed by another's key": lambda ca: ca.person().proxy(signer=ca.person("John")),
    "too long a path": lambda ca: ca.person().proxy(path_length=0).proxy(),
    "a proxy that issues no proxy": lambda ca: ca.person().proxy().proxy(with_info=False),
    "a person that issues no proxy": lambda ca: ca.person().proxy(with_info=False),
    "another's name": lambda ca: _renamed(ca.person("John").proxy(), ca.person()),
    "no issuer": lambda ca: Credential(ca.person().proxy().certificate, ca.person().key),
}


def _in(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def _renamed(proxy: Credential, person: Credential) -> Credential:
    """John's proxy shown with Jane's certificate in place of his."""
    return Credential(proxy.certificate, proxy.key, person.chain)


@pytest.mark.parametrize("bad", _BAD)
async def test_the_front_ends_the_connection_of(
    authority: Authority, tmp_path: Path, bad: str
) -> None:
    front = TlsFront(make_files(tmp_path, authority), accept_proxies=True)
    async with serve_echo(authority, front=front) as echo:
        assert await echo.is_refused(_BAD[bad](authority))


async def test_a_front_that_accepts_no_proxies_refuses_them(
    authority: Authority, tmp_path: Path
) -> None:
    front = TlsFront(make_files(tmp_path, authority))
    async with serve_echo(authority, front=front) as echo:
        assert await echo.is_refused(authority.person().proxy())
        assert await echo.who(authority.person()) == f"{JANE}|{ROOT}"


async def test_a_front_that_requires_certificates_refuses_those_without(
    authority: Authority, tmp_path: Path
) -> None:
    front = TlsFront(make_files(tmp_path, authority), require_certificate=True)
    async with serve_echo(authority, front=front) as echo:
        assert await echo.is_refused()


async def test_each_connection_is_its_own_caller(authority: Authority, tmp_path: Path) -> None:
    front = TlsFront(make_files(tmp_path, authority))
    people = [authority.person(f"Person {n}") for n in range(8)]
    async with serve_echo(authority, front=front) as echo:
        found = await asyncio.gather(*(echo.who(person) for person in people * 3))
    expected = [f"/DC=org/DC=example/OU=People/CN=Person {n}|{ROOT}" for n in range(8)]
    assert found == expected * 3


async def test_nobody_reaches_the_server_behind_past_the_front(
    authority: Authority, tmp_path: Path
) -> None:
    front = TlsFront(make_files(tmp_path, authority))
    async with serve_echo(authority, front=front) as echo:
        directory = Path(front.backend.removeprefix("unix:")).parent
        assert directory.stat().st_mode & 0o077 == 0
        # This user may enter; who comes that way is nobody.
        async with grpc.aio.insecure_channel(front.backend) as channel:
            assert await call(channel, WHO) == b"?"
        assert await echo.who() == ""
        assert [entry.name for entry in directory.iterdir()] == ["grpc"]
    assert not directory.exists()


async def test_the_peer_is_the_address_of_the_client(authority: Authority, tmp_path: Path) -> None:
    front = TlsFront(make_files(tmp_path, authority))
    async with serve_echo(authority, front=front) as echo, echo.channel() as channel:
        await call(channel, WHO)
        (caller,) = front._callers.values()
        kind, host, port = caller.peer.split(":")
        assert (kind, host) == ("ipv4", LOOPBACK)
        assert int(port) != echo.port


async def test_large_messages_and_long_streams_come_through(
    authority: Authority, tmp_path: Path
) -> None:
    front = TlsFront(make_files(tmp_path, authority))
    large = os.urandom(24 * 1024 * 1024)
    async with serve_echo(authority, front=front) as echo, echo.channel() as channel:
        assert await call(channel, ECHO, large) == large

        async def pieces() -> AsyncIterator[bytes]:
            for n in range(300):
                yield bytes([n % 256]) * 50_000

        stream = cast("Callable[..., AsyncIterator[bytes]]", channel.stream_stream(STREAM))
        sizes = [len(piece) async for piece in stream(pieces(), timeout=60)]
        assert sizes == [50_000] * 300


async def test_a_client_that_never_shakes_hands_is_sent_away(
    authority: Authority, tmp_path: Path
) -> None:
    front = TlsFront(make_files(tmp_path, authority), handshake_timeout=timedelta(seconds=0.3))
    async with serve_echo(authority, front=front) as echo:
        reader, writer = await asyncio.open_connection(LOOPBACK, echo.port)
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        assert await echo.who() == ""


async def test_more_connections_than_allowed_are_closed(
    authority: Authority, tmp_path: Path
) -> None:
    front = TlsFront(make_files(tmp_path, authority), max_connections=2)
    async with serve_echo(authority, front=front) as echo:
        async with echo.channel() as one, echo.channel() as two:
            for channel in (one, two):
                await call(channel, WHO)
            assert await echo.is_refused()
        for _ in range(100):
            if not front._connections:
                break
            await asyncio.sleep(0.05)
        assert await echo.who() == ""


@pytest.mark.parametrize("how", ["plain text", "no ALPN", "HTTP/1.1", "TLS 1.2", "hang up"])
async def test_whoever_speaks_something_else_is_sent_away(
    authority: Authority, tmp_path: Path, how: str
) -> None:
    front = TlsFront(make_files(tmp_path, authority))
    async with serve_echo(authority, front=front) as echo:
        await asyncio.to_thread(_speak, how, echo.port, authority)
        assert await echo.who() == ""
        assert len(front._callers) <= 1


def _speak(how: str, port: int, authority: Authority) -> None:
    with socket.create_connection((LOOPBACK, port), 20) as raw:
        if how == "hang up":
            return
        if how == "plain text":
            raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while raw.recv(1000):
                pass
            return
        context = ssl.create_default_context(cadata=authority.pem.decode())
        if how == "TLS 1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if how == "HTTP/1.1":
            context.set_alpn_protocols(["http/1.1"])
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as tls:
                assert tls.recv(1000) == b""
        except OSError:
            assert how in {"TLS 1.2", "HTTP/1.1", "no ALPN"}


async def test_open_connections_outlive_the_listener(authority: Authority, tmp_path: Path) -> None:
    front = TlsFront(make_files(tmp_path, authority))
    async with serve_echo(authority, front=front) as echo, echo.channel() as channel:
        await call(channel, WHO)
        await front.refuse_new()
        assert await echo.is_refused()
        assert len(await call(channel, ECHO, b"x" * 1_000_000)) == 1_000_000


def test_what_a_killed_server_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = {name: make_private_directory() for name in ("killed", "alive", "starting", "empty")}
    for name in ("killed", "starting"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(made[name] / "grpc"))
    alive = socket.socket(socket.AF_UNIX)
    alive.bind(str(made["alive"] / "grpc"))
    alive.listen()
    other = tmp_path / "pandawn-something"
    other.mkdir()
    for name in ("killed", "alive", "empty"):
        os.utime(made[name], (1, 1))
    make_private_directory()
    assert {name for name, path in made.items() if path.exists()} == {"alive", "starting"}
    assert other.exists()
    alive.close()
