"""What the command line shows to which server, and over what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pandawn_client import tokens
from pandawn_client.certificates import read_pair
from pandawn_client.credentials import Given
from pandawn_tools.cli.credentials import find_credentials
from pandawn_tools.cli.errors import CliError
from pandawn_tools.cli.settings import Address, parse_address
from pandawn_tools.cli.tokens import keep_token
from tests.fixtures.certificates import Authority

FAR = Address("pandawn.example.org:25443", "a test")
NEAR = Address("127.0.0.1:25443", "a test")
DEFAULT = Address("127.0.0.1:25443", "the default", is_default=True)
SOCKET = parse_address("unix:/run/pandawn.sock", "a test")


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tokens, "_LAST_PLACE", str(tmp_path / "tmp"))
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def configure(environ: dict[str, str], text: str) -> None:
    path = Path(environ["XDG_CONFIG_HOME"], "pandawn", "config.toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("address", "said", "speaks"),
    [
        (FAR, None, True),
        (FAR, False, False),
        (NEAR, None, False),
        (NEAR, True, True),
        (SOCKET, None, False),
        (SOCKET, False, False),
    ],
)
def test_tls_is_spoken_with_all_but_this_machine(
    environ: dict[str, str], address: Address, *, said: bool | None, speaks: bool
) -> None:
    found = find_credentials(address, Given(tls=said), environ)
    assert found.tls is speaks


def test_the_option_wins_over_the_variable_and_that_over_the_file(environ: dict[str, str]) -> None:
    configure(environ, "tls = true")
    assert find_credentials(NEAR, Given(), environ).tls
    environ["PANDAWN_TLS"] = "0"
    assert find_credentials(NEAR, Given(), environ).tls is False
    assert find_credentials(NEAR, Given(tls=True), environ).tls
    environ["PANDAWN_TLS"] = "yes"
    with pytest.raises(CliError, match="0 or 1"):
        find_credentials(NEAR, Given(), environ)


def test_naming_an_authority_means_tls(
    environ: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    ca = str(authority.write(tmp_path / "ca.pem"))
    assert find_credentials(NEAR, Given(ca=ca), environ).tls
    environ["PANDAWN_CA"] = ca
    assert find_credentials(NEAR, Given(), environ).tls
    # What is around for others does not change how this machine is spoken to.
    del environ["PANDAWN_CA"]
    environ["X509_CERT_DIR"] = str(tmp_path)
    environ["X509_USER_PROXY"] = "/nonexistent"
    assert find_credentials(NEAR, Given(), environ).tls is False


def test_a_socket_file_has_no_tls(environ: dict[str, str]) -> None:
    with pytest.raises(CliError, match="has no TLS"):
        find_credentials(SOCKET, Given(tls=True), environ)


def test_a_token_never_leaves_this_machine_in_the_clear(environ: dict[str, str]) -> None:
    for where in ("BEARER_TOKEN", "kept"):
        if where == "kept":
            del environ["BEARER_TOKEN"]
            keep_token(FAR, "secret", environ)
        else:
            environ[where] = "secret"
        with pytest.raises(CliError) as caught:
            find_credentials(FAR, Given(tls=False), environ)
        assert caught.value.reason == "TOKEN_IN_THE_CLEAR"
        assert "secret" not in str(caught.value) + " ".join(caught.value.details)
        assert find_credentials(FAR, Given(), environ).token is not None


def test_a_token_that_is_around_is_not_shown_to_whoever_listens_at_the_default_port(
    environ: dict[str, str],
) -> None:
    environ["BEARER_TOKEN"] = "secret"
    assert find_credentials(DEFAULT, Given(), environ).token is None
    # A server that was named is meant.
    assert find_credentials(NEAR, Given(), environ).token is not None
    assert find_credentials(SOCKET, Given(), environ).token is not None


def test_a_bad_file_that_is_merely_around_hinders_nobody_on_this_machine(
    environ: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "tmp" / f"bt_u{os.geteuid()}"
    path.write_text("x")
    path.chmod(0o644)
    for address in (DEFAULT, NEAR, SOCKET):
        assert find_credentials(address, Given(), environ).token is None
    with pytest.raises(CliError):
        find_credentials(FAR, Given(), environ)


def test_a_proxy_file_holds_certificate_and_key(
    environ: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    proxy = authority.person().proxy()
    path = proxy.write_proxy(tmp_path / "proxy")
    chain, key = read_pair(path, path)
    assert (chain.split(), key.split()) == (proxy.chain_pem.split(), proxy.key_pem.split())
    environ["X509_USER_PROXY"] = str(path)
    assert "X509_USER_PROXY" in find_credentials(FAR, Given(), environ).certificate


def test_what_is_around_is_not_shown_beside_a_token(
    environ: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    environ["X509_USER_PROXY"] = str(authority.person().write_proxy(tmp_path / "proxy"))
    environ["BEARER_TOKEN"] = "x"
    assert not find_credentials(FAR, Given(), environ).certificate
    given = Given(cert=environ["X509_USER_PROXY"])
    assert find_credentials(FAR, given, environ).certificate


def test_a_key_that_others_can_read_is_refused(
    environ: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.person().write(tmp_path, "jane")
    given = Given(cert=str(certificate), key=str(key))
    assert find_credentials(FAR, given, environ).certificate
    key.chmod(0o640)
    with pytest.raises(CliError) as caught:
        find_credentials(FAR, given, environ)
    assert caught.value.reason == "CREDENTIAL_EXPOSED"


def test_a_key_in_another_file_is_asked_for(
    environ: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    certificate, _ = authority.person().write(tmp_path, "jane")
    certificate.chmod(0o600)
    with pytest.raises(CliError, match="no private key") as caught:
        find_credentials(FAR, Given(cert=str(certificate)), environ)
    assert caught.value.reason == "NO_KEY"


def test_a_key_with_a_pass_phrase_is_named_as_such(
    environ: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.person().write(tmp_path, "jane")
    key.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(CliError) as caught:
        find_credentials(FAR, Given(cert=str(certificate), key=str(key)), environ)
    assert caught.value.reason == "KEY_ENCRYPTED"


def test_authorities_may_be_a_directory(
    environ: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    directory = tmp_path / "certificates"
    directory.mkdir()
    authority.write(directory / "a.pem")
    (directory / "1234abcd.0").symlink_to("a.pem")
    Authority("Other").write(directory / "b.pem")
    (directory / "a.signing_policy").write_text("x")
    (directory / "gone.0").symlink_to("nowhere.pem")
    found = find_credentials(FAR, Given(ca=str(directory)), environ).root
    assert found is not None
    assert found.count(b"BEGIN") == 2
    environ["X509_CERT_DIR"] = str(tmp_path / "nowhere")
    with pytest.raises(CliError):
        find_credentials(FAR, Given(), environ)


@pytest.mark.parametrize("text", ["tls = 1", "ca = 1", "tokenfile = 'x'", "cert = ['a']"])
def test_a_wrong_configuration_is_named(environ: dict[str, str], text: str) -> None:
    configure(environ, text)
    with pytest.raises(CliError) as caught:
        find_credentials(FAR, Given(), environ)
    assert caught.value.reason == "INVALID_CONFIGURATION"
