"""What a server is shown, and how the way to it is protected: TLS, certificates, a token."""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from pandawn_client.authorities import read_authorities
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.secrets_on_disk import read_secret
from pandawn_tools.cli.settings import Address, Configured, read_config
from pandawn_tools.cli.tokens import FoundToken, find_token

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Given:
    """Options of the command line about credentials; None for what was not given."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    tls: bool | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to show, and whose word for the server counts; None for those that gRPC brings along.

    `certificate` says for people where the certificate comes from.
    """

    channel: grpc.ChannelCredentials | None = None
    token: FoundToken | None = None
    certificate: str = ""
    authorities: bytes | None = None

    @property
    def shows_anything(self) -> bool:
        """Whether the server learns who calls."""
        return self.token is not None or bool(self.certificate)


NOTHING = Credentials()
"""No TLS, and nothing shown: for a server on this machine that asks for nothing."""


def find_credentials(
    address: Address,
    given: Given,
    environ: Mapping[str, str] | None = None,
    *,
    token: FoundToken | None = None,
) -> Credentials:
    """Returns what to show to a server; a `token` that is given here is not looked for elsewhere.

    TLS is spoken with every server but those on this machine, and with those when an option, a
    variable or the configuration file names authorities or a certificate, or says so.

    Raises:
        CliError: Something that was named cannot be used, or a token would travel in the clear.
    """
    environ = os.environ if environ is None else environ
    configured = read_config(environ)
    ca = _chosen("ca", given.ca, environ, configured)
    cert = _chosen("cert", given.cert, environ, configured)
    tls = _wants_tls(address, given.tls, environ, configured, names_any=bool(ca or cert))
    if token is None:
        token = find_token(address, given.token_file, configured.token_file, environ, over_tls=tls)
    if not tls:
        return Credentials(token=_fit_for_clear(address, token))
    key = _chosen("key", given.key, environ, configured)
    if cert is None and token is None:
        # Around on every grid node, and not for this server in particular.
        cert, key = _ambient(environ, key)
    chain_pem = key_pem = None
    if cert is not None:
        chain_pem, key_pem = _read_pair(Path(cert[0]), Path((key or cert)[0]))
    authorities = _authorities(ca, environ)
    channel = grpc.ssl_channel_credentials(authorities, key_pem, chain_pem)
    certificate = "" if cert is None else f"{cert[0]}, from {cert[1]}"
    return Credentials(channel, token, certificate, authorities)


_Found = tuple[str, str]
"""A path, and where it was found."""


def _chosen(
    name: str, option: str | None, environ: Mapping[str, str], configured: Configured
) -> _Found | None:
    variable = f"PANDAWN_{name.upper()}"
    in_file: str | None = getattr(configured, name)
    for value, source in (
        (option, f"--{name}"),
        (environ.get(variable), f"the variable {variable}"),
        (in_file, str(configured.path)),
    ):
        if value:
            return str(Path(value).expanduser()), source
    return None


def _ambient(environ: Mapping[str, str], key: _Found | None) -> tuple[_Found | None, _Found | None]:
    if environ.get("X509_USER_PROXY"):
        return (environ["X509_USER_PROXY"], "the variable X509_USER_PROXY"), key
    if environ.get("X509_USER_CERT") and environ.get("X509_USER_KEY"):
        return (
            (environ["X509_USER_CERT"], "the variable X509_USER_CERT"),
            (environ["X509_USER_KEY"], "the variable X509_USER_KEY"),
        )
    return None, key


def _wants_tls(
    address: Address,
    option: bool | None,
    environ: Mapping[str, str],
    configured: Configured,
    *,
    names_any: bool,
) -> bool:
    # A variable that cannot be read is said even where it does not matter: it will somewhere else.
    variable = environ.get("PANDAWN_TLS") or None
    if variable not in {None, "0", "1"}:
        raise usage_error("INVALID_SETTING", f"PANDAWN_TLS is 0 or 1, not {variable!r}")
    if address.is_socket:
        if option:
            raise usage_error("NO_TLS", f"{address.target} is a socket file, which has no TLS")
        return False
    for said in (option, None if variable is None else variable == "1", configured.tls):
        if said is not None:
            return said
    return names_any or not address.is_loopback


def _fit_for_clear(address: Address, token: FoundToken | None) -> FoundToken | None:
    """The token, if it may go without TLS: only to this machine, and only to whom it is meant for."""
    if token is not None and not address.is_loopback:
        raise usage_error(
            "TOKEN_IN_THE_CLEAR",
            f"a token would go to {address.target} for everybody on the way to read",
            details=[f"the token is that in {token.source}"],
            remedies=["leave --no-tls (PANDAWN_TLS=0, tls = false) away", "or the token"],
        )
    return token


def _read_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """The chain and the key: of a proxy, which holds both in one file, each part goes its own way."""
    if cert == key:
        chain = content = read_secret(cert, "the certificate with its key")
    else:
        chain, content = _read(cert, "the certificate"), read_secret(key, "the key")
    certificates, keys = _CERTIFICATE.findall(chain), _KEY.findall(content)
    if not certificates:
        raise usage_error("NO_CERTIFICATE", f"{cert} holds no certificate in PEM")
    if not keys:
        raise usage_error(
            "NO_KEY", f"{key} holds no private key in PEM", remedies=["name its file with --key"]
        )
    if b"ENCRYPTED" in keys[0]:
        raise usage_error(
            "KEY_ENCRYPTED",
            f"the key in {key} has a pass phrase, which nobody is there to type",
            remedies=["make a proxy (voms-proxy-init -rfc), and name it with --cert"],
        )
    return b"\n".join(certificates) + b"\n", keys[0] + b"\n"


def _authorities(ca: _Found | None, environ: Mapping[str, str]) -> bytes | None:
    """Whose word counts for the server's certificate; None for those that gRPC brings along."""
    if ca is None and environ.get("X509_CERT_DIR"):
        ca = (environ["X509_CERT_DIR"], "the variable X509_CERT_DIR")
    if ca is None:
        # The system's, among which an institute may have put its own.
        system: str | None = ssl.get_default_verify_paths().cafile
        return None if system is None else b"\n".join(_read_authorities(Path(system))[0]) + b"\n"
    path = Path(ca[0])
    found, skipped = _read_authorities(path)
    if not found:
        raise usage_error(
            "NO_AUTHORITIES",
            f"there is no certificate of an authority in {path}, from {ca[1]}",
            details=skipped,
        )
    return b"\n".join(found) + b"\n"


def _read_authorities(path: Path) -> tuple[list[bytes], list[str]]:
    try:
        return read_authorities(path)
    except OSError as error:
        raise usage_error(
            "CREDENTIAL_UNREADABLE",
            f"the authority {path} cannot be read",
            details=[error.strerror or ""],
        ) from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise usage_error(
            "CREDENTIAL_UNREADABLE", f"{what} {path} cannot be read", details=[error.strerror or ""]
        ) from error
