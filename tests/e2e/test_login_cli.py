"""`pandawn login`, `whoami` and `logout` against a real server with TLS."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fixtures.certificates import LIMITED, Authority
from tests.fixtures.command import PROGRAM, RunCli, Said
from tests.fixtures.ports import free_port
from tests.fixtures.secure import RunningSite, SecureSite
from tests.fixtures.server import StartServer
from tests.fixtures.tokens import TokenIssuer

USAGE, REFUSED, UNREACHABLE = 2, 3, 4


class Site:
    """The command line of somebody at a site."""

    def __init__(self, site: SecureSite, target: str, run_cli: RunCli, home: Path) -> None:
        self.secure = site
        self.target = target
        self.run_cli = run_cli
        self.home = home

    @property
    def kept(self) -> Path:
        return self.home / "config" / "pandawn" / "tokens" / self.target.replace(":", "_")

    def run(self, *arguments: str, **environment: str) -> Said:
        settings = {"PANDAWN_SERVER": self.target, "PANDAWN_CA": str(self.secure.ca_file)}
        return self.run_cli(*arguments, **{**settings, **environment})

    def pipe(self, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        hidden = ("PANDAWN_", "BEARER_TOKEN", "X509_")
        return subprocess.run(
            [PROGRAM, *arguments],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(hidden)},
                "PANDAWN_SERVER": self.target,
                "PANDAWN_CA": str(self.secure.ca_file),
                "XDG_CONFIG_HOME": str(self.home / "config"),
            },
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def site(mixed_site: RunningSite, run_cli: RunCli, tmp_path: Path) -> Site:
    return Site(mixed_site.site, mixed_site.target, run_cli, tmp_path)


def test_a_token_that_is_piped_in_is_kept_used_and_forgotten(site: Site) -> None:
    token = site.secure.token()
    done = site.pipe(token + "\n", "login")
    assert done.returncode == 0, done.stderr
    for word in ("https://iam.example.org/", "ann", "compute.create", "expires", str(site.kept)):
        assert word in done.stdout
    assert token not in done.stdout + done.stderr
    assert stat.S_IMODE(site.kept.stat().st_mode) == 0o600
    said = site.run("whoami")
    assert said.status == 0, said.err
    for word in ("ann", "people with tokens", "user", "pandawn login"):
        assert word in said.out
    assert site.run("tasks").status == 0
    assert site.run("logout").status == 0
    assert not site.kept.exists()
    assert "no token to remove" in site.run("logout").err
    refused = site.run("tasks")
    assert refused.status == REFUSED
    assert "CREDENTIALS_REQUIRED" in refused.err
    assert "pandawn login" in refused.err


def test_a_token_is_taken_from_a_file_and_from_the_environment(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(site.secure.token())
    assert site.pipe("", "login", "--token-file", str(path)).returncode == 0
    path.chmod(0o644)
    done = site.pipe("", "login", "--token-file", str(path))
    assert (done.returncode, "CREDENTIAL_EXPOSED" in done.stderr) == (USAGE, True)
    said = site.run("whoami", "--json", BEARER_TOKEN=site.secure.token("robot"))
    assert json.loads(said.out)["rule"] == "the pilots' robot"


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("TOKEN_EXPIRED", "get a new"),
        ("WRONG_AUDIENCE", "audience"),
        ("BAD_SIGNATURE", "pandawn login"),
        ("UNKNOWN_ISSUER", "issuer"),
        ("USER_NAME_TAKEN", "the operator of the server"),
    ],
)
def test_a_token_that_the_server_does_not_take_is_not_kept(
    site: Site, reason: str, remedy: str
) -> None:
    issuer = site.secure.issuer
    token = {
        "TOKEN_EXPIRED": lambda: issuer.token(lifetime=-timedelta(hours=1)),
        "WRONG_AUDIENCE": lambda: issuer.token(audience="other"),
        "BAD_SIGNATURE": lambda: TokenIssuer().token(),
        "UNKNOWN_ISSUER": lambda: TokenIssuer("https://other.example.org/").token(),
        "USER_NAME_TAKEN": lambda: site.secure.token(name="jane"),
    }[reason]()
    done = site.pipe(token, "login")
    assert done.returncode in {USAGE, REFUSED}
    assert reason in done.stderr
    assert remedy in done.stderr
    assert not site.kept.exists()


def test_a_token_for_a_server_that_is_away_is_kept_untried(
    secure_site: SecureSite, run_cli: RunCli, tmp_path: Path
) -> None:
    site = Site(secure_site, f"localhost:{free_port()}", run_cli, tmp_path)
    done = site.pipe(site.secure.token(), "login")
    assert done.returncode == 0, done.stderr
    assert "unchecked" in done.stderr
    assert site.kept.exists()


def test_without_any_token_login_says_how(site: Site) -> None:
    done = site.pipe("", "login")
    assert done.returncode == USAGE
    assert "--token-file" in done.stderr


def test_certificates_and_proxies_are_shown(
    site: Site, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.person().write(tmp_path, "jane")
    said = site.run("--cert", str(certificate), "--key", str(key), "whoami")
    assert said.status == 0, said.err
    assert "/CN=Jane Doe" in said.out
    proxy = authority.person().proxy(policy=LIMITED).write_proxy(tmp_path / "proxy")
    said = site.run("whoami", X509_USER_PROXY=str(proxy))
    assert said.status == 0, said.err
    assert "it cannot submit" in said.out
    said = site.run(
        "submit", "--queue", "Q", "--jobs", "1", "--", "true", X509_USER_PROXY=str(proxy)
    )
    assert said.status == REFUSED
    assert "LIMITED_PROXY" in said.err


def test_a_task_is_of_whom_the_server_takes_the_token_for(site: Site) -> None:
    operator = {"PANDAWN_SERVER": site.secure.servers[0].address, "PANDAWN_CA": ""}
    queue = ("Q", "--site", "T3", "--storage-root", str(site.home / "out"))
    assert site.run("queues", "apply", *queue, **operator).status == 0
    token = site.secure.token()
    submit = ("submit", "--queue", "Q", "--jobs", "1", "--json")
    said = site.run(*submit, "--", "true", BEARER_TOKEN=token)
    assert said.status == 0, said.err
    assert json.loads(said.out)["user"] == "ann"
    said = site.run(*submit, "--user", "jane", "--", "true", BEARER_TOKEN=token)
    assert said.status == REFUSED
    said = site.run(*submit, "--", "true", **operator)
    assert json.loads(said.out)["user"] not in {"", "ann"}


def test_a_server_that_nobody_vouches_for_is_not_spoken_to(site: Site, tmp_path: Path) -> None:
    other = Authority("Other").write(tmp_path / "other.pem")
    said = site.run("whoami", PANDAWN_CA=str(other), BEARER_TOKEN=site.secure.token())
    assert said.status == UNREACHABLE
    assert "self-signed certificate in certificate chain" in said.err
    assert "--ca FILE" in said.err


def test_a_certificate_that_the_server_does_not_take_is_named_as_the_cause(
    site: Site, tmp_path: Path
) -> None:
    certificate, key = Authority("Other").person().write(tmp_path, "jane")
    said = site.run("--cert", str(certificate), "--key", str(key), "whoami")
    assert said.status == UNREACHABLE
    assert f"refuses our certificate, {certificate}" in said.err


def test_a_server_with_tls_is_not_understood_without(site: Site) -> None:
    port = site.target.rpartition(":")[2]
    said = site.run("whoami", PANDAWN_SERVER=f"127.0.0.1:{port}", PANDAWN_CA="")
    assert said.status == UNREACHABLE
    assert "--tls" in said.err
    plain = site.secure.servers[0].address
    said = site.run("--tls", "whoami", PANDAWN_SERVER=plain)
    assert said.status == UNREACHABLE
    assert "does not use TLS" in said.err


def test_a_socket_file_reaches_the_server_of_this_machine(
    start_server: StartServer, run_cli: RunCli, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    start_server(listen=f"unix:{path},127.0.0.1:0")
    said = run_cli("whoami", PANDAWN_SERVER=f"unix:{path}")
    assert said.status == 0, said.err
    assert "operator" in said.out
    assert "local" in said.out
