"""What a pilot reads of credentials, what it refuses to send, and what it forgets."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from pandawn_client.address import is_local
from pandawn_client.certificates import read_authorities
from pandawn_client.connection import Connection
from pandawn_client.credentials import Credentials
from pandawn_client.errors import CredentialError
from pandawn_client.refusals import CallError
from pandawn_client.signing import Identity
from pandawn_client.tokens import Token
from pandawn_pilot.credential_options import add_credential_options, read_credentials
from pandawn_pilot.hooks.session import HookIdentity, helps_to_repeat
from pandawn_pilot.logs import Log
from pandawn_pilot.server.token_file import TokenKeeper
from tests.fixtures.certificates import Authority

REGISTER = "/pandawn.dispatcher.v1.Dispatcher/RegisterPilot"
RENEW = "/pandawn.dispatcher.v1.Dispatcher/RenewLeases"
VARIABLES = ("BEARER_TOKEN", "BEARER_TOKEN_FILE", "X509_USER_PROXY", "X509_CERT_DIR", "PANDAWN_TLS")


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def read(server: str, *options: str | Path) -> Credentials:
    parser = argparse.ArgumentParser()
    add_credential_options(parser)
    return read_credentials(parser.parse_args([str(option) for option in options]), server)


def make_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def make_log() -> Log:
    return Log(logging.getLogger("test"), {})


@pytest.mark.parametrize(
    ("server", "local"),
    [
        ("unix:/run/s", True),
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost.example.org:1", False),
        ("127.0.0.1.example.org:1", False),
        ("192.0.2.1:1", False),
        ("[::ffff:192.0.2.1]:1", False),
    ],
)
def test_what_stays_on_the_machine_is_told_from_what_does_not(server: str, local: bool) -> None:
    assert is_local(server) is local
    assert read(server).tls is not local


def test_a_token_is_not_sent_in_the_clear_to_another_machine(tmp_path: Path) -> None:
    token = make_file(tmp_path / "t", "abc\n")
    with pytest.raises(CredentialError, match="would be sent unencrypted"):
        read("server.example.org:1", "--no-tls", "--token-file", token)
    assert read("server.example.org:1", "--token-file", token).token_text == "abc"
    assert read("127.0.0.1:1", "--token-file", token).token_text == "abc"


def test_a_token_is_taken_out_of_the_environment_and_its_memory() -> None:
    script = (
        "from pandawn_client.environment import take_variable;"
        "print(take_variable('BEARER_TOKEN'));"
        "import os; print('BEARER_TOKEN' in os.environ, os.getenv('OTHER'));"
        "print(b'hush-hush' in open('/proc/self/environ', 'rb').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "BEARER_TOKEN": "hush-hush", "OTHER": "kept"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["hush-hush", "False", "kept", "False"]


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        ("", 0o600, "contains no token"),
        ("two words", 0o600, "contains no token"),
        ("ümlaut", 0o600, "contains no token"),
        ("abc", 0o604, "chmod 600"),
    ],
)
def test_what_is_no_token_is_refused(tmp_path: Path, content: str, mode: int, why: str) -> None:
    with pytest.raises(CredentialError, match=why):
        read("127.0.0.1:1", "--token-file", make_file(tmp_path / "t", content, mode))


def test_a_proxy_is_parted_into_chain_and_key(tmp_path: Path, authority: Authority) -> None:
    proxy = authority.person().proxy().write_proxy(tmp_path / "proxy")
    shown = read("server.example.org:1", "--cert", proxy)
    assert shown.chain is not None
    assert shown.key is not None
    assert shown.chain.count(b"BEGIN CERTIFICATE") >= 2
    assert b"PRIVATE" not in shown.chain
    assert b"CERTIFICATE" not in shown.key
    assert shown.key_file == proxy


def test_a_proxy_that_is_just_around_does_not_go_beside_a_token(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = authority.person().proxy().write_proxy(tmp_path / "proxy")
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    assert read("server.example.org:1").chain is not None
    token = make_file(tmp_path / "t", "abc")
    assert read("server.example.org:1", "--token-file", token).chain is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--tls"], "a socket file, which has no TLS"),
        (["--ca", "/etc/ssl"], "a socket file, which has no TLS"),
    ],
)
def test_a_socket_file_has_no_tls(options: Sequence[str], why: str) -> None:
    with pytest.raises(CredentialError, match=why):
        read("unix:/run/server.sock", *options)


def test_a_bad_file_among_the_authorities_is_skipped_and_named(
    tmp_path: Path, authority: Authority
) -> None:
    good, torn = tmp_path / "b.pem", tmp_path / "a.pem"
    authority.write(good)
    # Torn in the middle, by the program that fetches them: what stands after it counts all the same.
    middle = len(good.read_bytes()) // 2
    torn.write_bytes(good.read_bytes()[:middle] + b"!" + good.read_bytes()[middle:])
    (tmp_path / "0a1b2c3d.0").symlink_to("gone-ca.pem")
    (tmp_path / "loop.0").symlink_to("loop.0")
    (tmp_path / "directory.0").mkdir()
    (tmp_path / "empty.0").touch()
    found, skipped = read_authorities(tmp_path)
    assert found == [good.read_bytes().strip()]
    named = {text.partition(":")[0].rpartition("/")[2] for text in skipped}
    assert named == {"a.pem", "0a1b2c3d.0", "loop.0", "directory.0", "empty.0"}


def test_authorities_in_a_directory_count_once_each(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path / "ca.pem")
    (tmp_path / "12345678.0").symlink_to("ca.pem")
    (tmp_path / "ca.crl").write_text("no certificate")
    shown = read("server.example.org:1", "--ca", tmp_path)
    assert shown.root is not None
    assert shown.root.count(b"BEGIN") == 1
    with pytest.raises(CredentialError, match="no certificate of an authority"):
        read("server.example.org:1", "--ca", make_file(tmp_path / "empty.pem", "nothing"))


def test_the_credential_begins_sessions_and_the_session_does_the_rest() -> None:
    identity = Identity("jwt")
    assert identity.metadata(REGISTER) == (("authorization", "Bearer jwt"),)
    assert identity.metadata(RENEW) == ()
    identity.begin("session-1")
    assert identity.metadata(RENEW) == (("pandawn-session", "session-1"),)
    assert identity.metadata(REGISTER) == (("authorization", "Bearer jwt"),)
    identity.renew("")
    assert identity.session == "session-1"
    identity.renew("session-2")
    assert identity.metadata(RENEW) == (("pandawn-session", "session-2"),)


def test_only_a_refused_session_is_told_of() -> None:
    told: list[int] = []
    identity = Identity()
    identity.on_refused = lambda: told.append(1)
    identity.record_end(REGISTER, grpc.StatusCode.UNAUTHENTICATED)
    identity.record_end(RENEW, grpc.StatusCode.UNAVAILABLE)
    assert told == []
    identity.record_end(RENEW, grpc.StatusCode.UNAUTHENTICATED)
    assert told == [1]


def test_a_hook_opens_a_session_at_need_and_another_when_half_of_it_is_over() -> None:
    opened: list[str] = []

    def open_session() -> tuple[str, float]:
        opened.append(f"s{len(opened)}")
        return opened[-1], life

    life = 3600.0
    identity = HookIdentity("jwt")
    identity.open_session = open_session
    assert identity.metadata(RENEW) == identity.metadata(RENEW) == (("pandawn-session", "s0"),)
    identity.record_end(RENEW, grpc.StatusCode.UNAUTHENTICATED)
    life = 0.02
    assert identity.metadata(RENEW) == (("pandawn-session", "s1"),)
    time.sleep(0.05)
    assert identity.metadata(RENEW) == (("pandawn-session", "s2"),)


def test_without_sessions_nobody_asks_again_who_was_not_let_in() -> None:
    refused = CallError(grpc.StatusCode.UNAUTHENTICATED, "X", "no", transient=True)
    away = CallError(grpc.StatusCode.UNAVAILABLE, "X", "no", transient=True)
    for identity, again in ((Identity("jwt", always=True), False), (HookIdentity("jwt"), True)):
        connection = Connection("127.0.0.1:1", identity=identity)
        assert helps_to_repeat(refused, connection) is again
        assert helps_to_repeat(away, connection)
        connection.close()


def test_a_token_file_goes_only_where_payloads_could_read_it(tmp_path: Path) -> None:
    token = make_file(tmp_path / "t", "abc")
    credentials = Credentials(token=Token("abc", "a test", token))
    for same_account, keep_file, stays in (
        (False, False, True),
        (True, True, True),
        (True, False, False),
    ):
        keeper = TokenKeeper(Identity("abc"), credentials, make_log(), keep_file=keep_file)
        keeper.hide_from_payloads(same_account=same_account)
        assert token.exists() is stays


def test_a_token_file_is_read_again_when_it_has_changed_and_is_good(tmp_path: Path) -> None:
    token = make_file(tmp_path / "t", "old")
    identity = Identity("old")
    keeper = TokenKeeper(
        identity, Credentials(token=Token("old", "a test", token)), make_log(), keep_file=True
    )
    make_file(tmp_path / "new", "not a token").replace(token)
    keeper.refresh()
    assert identity.token == "old"
    make_file(tmp_path / "new", "new").replace(token)
    keeper.refresh()
    assert identity.token == "new"
    token.unlink()
    keeper.refresh()
    assert identity.token == "new"
