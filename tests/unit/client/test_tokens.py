"""Bearer tokens of the command line: where they are found, how they are kept, what they say."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pandawn_client import tokens
from pandawn_client.errors import CredentialError
from pandawn_client.secret_files import MAX_SECRET_BYTES, read_secret, write_secret
from pandawn_client.tokens import Token, check_token, token_in_shared_place
from pandawn_tools.cli.settings import Address
from pandawn_tools.cli.tokens import (
    find_token,
    keep_token,
    kept_path,
    peek,
)
from tests.fixtures.tokens import AUDIENCE, ISSUER, TokenIssuer

SERVER = Address("pandawn.example.org:25443", "a test")


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with places of its own, /tmp among them."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tokens, "_LAST_PLACE", str(tmp_path / "tmp"))
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}


def put(path: Path, token: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{token}\n")
    path.chmod(mode)
    return path


def found(environ: dict[str, str], option: str | None = None) -> Token:
    token = find_token(SERVER, option, None, environ, over_tls=True)
    assert token is not None
    return token


def test_the_places_are_looked_at_in_the_order_of_the_discovery(
    environ: dict[str, str], tmp_path: Path
) -> None:
    uid = os.geteuid()
    assert find_token(SERVER, None, None, environ, over_tls=True) is None
    put(tmp_path / "tmp" / f"bt_u{uid}", "last")
    assert found(environ).text == "last"
    environ["XDG_RUNTIME_DIR"] = str(tmp_path / "run")
    put(tmp_path / "run" / f"bt_u{uid}", "runtime")
    assert found(environ).text == "runtime"
    keep_token(SERVER, "kept", environ)
    assert found(environ).text == "kept"
    environ["BEARER_TOKEN_FILE"] = str(put(tmp_path / "file", "in-a-file"))
    assert found(environ).text == "in-a-file"
    environ["BEARER_TOKEN"] = "in-a-variable"
    assert found(environ).text == "in-a-variable"
    option = put(tmp_path / "option", "option")
    assert found(environ, str(option)).text == "option"


def test_what_is_kept_for_one_server_is_shown_to_no_other(environ: dict[str, str]) -> None:
    keep_token(SERVER, "kept", environ)
    assert found(environ).text == "kept"
    for target in ("pandawn.example.org:25444", "evil.example.org:25443", "127.0.0.1:25443"):
        assert find_token(Address(target, "a test"), None, None, environ, over_tls=True) is None


def test_a_kept_token_is_for_its_user_alone(environ: dict[str, str]) -> None:
    path = keep_token(SERVER, "kept", environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_umask_does_not_matter(environ: dict[str, str]) -> None:
    before = os.umask(0)
    try:
        path = keep_token(SERVER, "kept", environ)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_directory_that_others_could_enter_is_closed(environ: dict[str, str]) -> None:
    directory = kept_path(SERVER, environ).parent
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    keep_token(SERVER, "kept", environ)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_directory_below_one_that_others_can_write_is_refused(
    environ: dict[str, str], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    environ["XDG_CONFIG_HOME"] = str(shared)
    with pytest.raises(CredentialError, match="other users can write") as caught:
        keep_token(SERVER, "kept", environ)
    assert caught.value.reason == "CREDENTIAL_NOT_KEPT"
    assert not list(shared.rglob("*_25443"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(environ: dict[str, str]) -> None:
    directory = kept_path(SERVER, environ).parent
    directory.mkdir(parents=True, mode=0o700)
    os.chown(directory, 1, 1)
    with pytest.raises(CredentialError, match="another user"):
        keep_token(SERVER, "kept", environ)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_token_that_others_can_read_is_refused_wherever_it_is(
    environ: dict[str, str], tmp_path: Path, mode: int
) -> None:
    path = put(tmp_path / "token", "x", mode)
    environ["BEARER_TOKEN_FILE"] = str(path)
    for option in (None, str(path)):
        with pytest.raises(CredentialError) as caught:
            find_token(SERVER, option, None, environ, over_tls=True)
        assert caught.value.reason == "CREDENTIAL_EXPOSED"
        assert f"chmod 600 {path}" in caught.value.remedies


def test_a_link_in_a_shared_place_is_not_followed(environ: dict[str, str], tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "x")
    (tmp_path / "tmp" / f"bt_u{os.geteuid()}").symlink_to(elsewhere)
    with pytest.raises(CredentialError) as caught:
        token_in_shared_place(environ)
    assert caught.value.reason == "CREDENTIAL_UNREADABLE"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_in_a_shared_place_is_refused(
    environ: dict[str, str], tmp_path: Path
) -> None:
    path = put(tmp_path / "tmp" / f"bt_u{os.geteuid()}", "x")
    os.chown(path, 1, 1)
    with pytest.raises(CredentialError, match="another user"):
        token_in_shared_place(environ)


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"two\nlines", "é".encode(), b"\0"])
def test_what_cannot_be_sent_is_no_token(content: bytes) -> None:
    with pytest.raises(CredentialError) as caught:
        check_token(content, "a test")
    assert caught.value.reason == "NO_TOKEN"


def test_a_renewed_token_is_heard_and_a_missing_file_is_not(
    environ: dict[str, str], tmp_path: Path
) -> None:
    path = put(tmp_path / "token", "first")
    token = found(environ, str(path))
    put(path, "second")
    assert token.fresh() == "second"
    path.unlink()
    assert token.fresh() == "second"


def test_a_file_that_is_not_there_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="nowhere"):
        find_token(SERVER, str(tmp_path / "nowhere"), None, environ, over_tls=True)
    with pytest.raises(CredentialError, match="cannot read"):
        find_token(SERVER, str(tmp_path), None, environ, over_tls=True)


def test_a_secret_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    private = tmp_path / "private"
    write_secret(private / "x", b"old", "a test")
    (private / "x").unlink()
    (private / "x").mkdir()
    with pytest.raises(CredentialError, match="cannot store"):
        write_secret(private / "x", b"new", "a test")
    assert [each.name for each in private.iterdir()] == ["x"]


def test_a_huge_file_is_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.touch(mode=0o600)
    os.truncate(path, MAX_SECRET_BYTES + 1)
    with pytest.raises(CredentialError, match="is larger than"):
        read_secret(path, "a test")


def test_a_token_says_what_is_in_it(token_issuer: TokenIssuer) -> None:
    claims = peek(token_issuer.token(groups=["/atlas"], scope="compute.read openid"))
    assert claims is not None
    assert (claims.issuer, claims.subject) == (ISSUER, "jane")
    assert list(claims.audience) == [AUDIENCE]
    assert list(claims.scopes) == ["compute.read", "openid"]
    assert list(claims.groups) == ["/atlas"]
    assert claims.expire_time is not None
    assert claims.expire_time > datetime.now(UTC)


@pytest.mark.parametrize(
    "text", ["opaque", "a.b.c", "..", "a.e30.c", "a.W10.c", "a.eyJleHAiOiJ4In0.c"]
)
def test_a_token_that_says_nothing_breaks_nothing(text: str) -> None:
    claims = peek(text)
    assert claims is None or not claims.issuer
