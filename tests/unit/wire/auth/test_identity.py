"""What callers are judged by follows its files, and what cannot be read changes nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pandawn_server.admission_config import AdmissionFileError
from pandawn_server.domain.access.principals import Principal, Role
from pandawn_server.domain.errors import ForbiddenError, UnauthenticatedError
from pandawn_server.wire.auth.api import AUTHORIZATION, Evidence
from pandawn_server.wire.auth.identity import Identity
from pandawn_server.wire.auth.tls_files import TlsFilesError
from tests.fixtures.certificates import Authority, Credential
from tests.fixtures.tokens import AUDIENCE, ISSUER, TokenIssuer

RULES = f"""
[[issuer]]
url = "{ISSUER}"
audience = "{AUDIENCE}"
jwks = "jwks.json"

[[admit]]
name = "tokens"
method = "token"
roles = ["user"]

[[admit]]
name = "certificates"
method = "x509"
roles = ["user"]
"""


class Site:
    """The files of a site, each write of which is seen."""

    def __init__(self, directory: Path, authority: Authority, issuer: TokenIssuer) -> None:
        self.directory = directory
        self._writes = 0
        self.write("admission.toml", RULES.encode())
        self.write("jwks.json", issuer.jwks().encode())
        self.write("ca.pem", authority.pem)

    def write(self, name: str, content: bytes) -> None:
        self._writes += 1
        (self.directory / name).write_bytes(content)
        os.utime(self.directory / name, ns=(self._writes, self._writes))

    def identity(self, *, revocations: str | None = None) -> Identity:
        identity = Identity(
            admission_file=self.directory / "admission.toml",
            keys_directory=self.directory / "keys",
            client_ca=self.directory / "ca.pem",
            revocations=None if revocations is None else self.directory / revocations,
        )
        identity.refresh()
        return identity


@pytest.fixture
def site(tmp_path: Path, authority: Authority, token_issuer: TokenIssuer) -> Site:
    return Site(tmp_path, authority, token_issuer)


def by_token(identity: Identity, token: str) -> Principal:
    evidence = Evidence("", {AUTHORIZATION: f"bearer {token}"})
    found = identity.token.authenticate(evidence, datetime.now(UTC))
    assert found is not None
    return found


def by_certificate(identity: Identity, credential: Credential) -> Principal:
    evidence = Evidence("", {}, credential.chain_der)
    found = identity.x509.authenticate(evidence, datetime.now(UTC))
    assert found is not None
    return found


def test_both_kinds_of_credentials_are_judged(
    site: Site, authority: Authority, token_issuer: TokenIssuer
) -> None:
    identity = site.identity()
    assert by_token(identity, token_issuer.token()).rule == "tokens"
    assert by_certificate(identity, authority.person()).rule == "certificates"


def test_a_changed_admission_file_holds_without_a_restart(site: Site, authority: Authority) -> None:
    identity = site.identity()
    changed = RULES.replace('["user"]', '["user", "monitor"]')
    site.write("admission.toml", changed.encode())
    identity.refresh()
    assert Role.MONITOR in by_certificate(identity, authority.person()).roles
    site.write("admission.toml", b"")
    identity.refresh()
    with pytest.raises(ForbiddenError):
        by_certificate(identity, authority.person())


@pytest.mark.parametrize("content", [b"[[admit]]", b"\xff", None])
def test_an_admission_file_that_went_wrong_changes_nothing(
    site: Site, token_issuer: TokenIssuer, content: bytes | None
) -> None:
    identity = site.identity()
    if content is None:
        (site.directory / "admission.toml").unlink()
    else:
        site.write("admission.toml", content)
    identity.refresh()
    assert by_token(identity, token_issuer.token()).rule == "tokens"
    with pytest.raises(AdmissionFileError):
        site.identity()


def test_an_issuer_that_is_struck_out_is_not_trusted_any_more(
    site: Site, token_issuer: TokenIssuer
) -> None:
    identity = site.identity()
    site.write("admission.toml", RULES.replace(ISSUER, "https://other.example.org/").encode())
    identity.refresh()
    with pytest.raises(UnauthenticatedError) as caught:
        by_token(identity, token_issuer.token())
    assert caught.value.reason == "UNKNOWN_ISSUER"


def test_revocations_are_read_when_they_change(site: Site, authority: Authority) -> None:
    jane = authority.person()
    site.write("a.r0", authority.revocation_list())
    identity = site.identity(revocations="")
    by_certificate(identity, jane)
    site.write("a.r0", authority.revocation_list(jane.certificate))
    identity.refresh()
    with pytest.raises(UnauthenticatedError) as caught:
        by_certificate(identity, jane)
    assert caught.value.reason == "CERTIFICATE_REVOKED"
    site.write("a.r0", b"half a li")
    identity.refresh()
    with pytest.raises(UnauthenticatedError):
        by_certificate(identity, jane)


def test_a_site_that_wants_revocations_does_not_start_without_any(site: Site) -> None:
    site.write("a.r0", b"")
    with pytest.raises(TlsFilesError, match=r"a\.r0"):
        site.identity(revocations="a.r0")


def test_without_an_admission_file_nobody_is_let_in(tmp_path: Path, authority: Authority) -> None:
    identity = Identity(admission_file=None, keys_directory=tmp_path)
    with pytest.raises(ForbiddenError):
        by_certificate(identity, authority.person())
