"""What a pilot or a hook shows to a server: certificates, and the token that begins its session.

Files are read once; what is read stays in memory. A token never goes over a line that others can
read: that is refused before a connection is made.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from pandawn_pilot.hardening import take_variable

_MAX_TOKEN_BYTES = 64 * 1024
STANDARD_INPUT = "-"


class CredentialError(Exception):
    """A credential that cannot be used; the message names it, and says what to do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to show. `root` None: the authorities that come with gRPC."""

    tls: bool = False
    root: bytes | None = None
    chain: bytes | None = None
    key: bytes | None = None
    token: str = ""
    # Where the token came from, if from a file that can be read again or removed.
    token_file: Path | None = None
    # Files that hold a key, which payloads of the same account can read.
    key_file: Path | None = None

    def channel(self) -> grpc.ChannelCredentials | None:
        """For a channel; None for one without TLS."""
        if not self.tls:
            return None
        return grpc.ssl_channel_credentials(self.root, self.key, self.chain)


def add_credential_options(
    parser: argparse._ActionsContainer,
) -> None:
    """Adds the options that say what to show."""
    parser.add_argument(
        "--tls", action="store_true", help="speak TLS; follows from the next two (or PANDAWN_TLS=1)"
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="PATH",
        help="the authorities that the server's certificate is checked against, a file or a"
        " directory (default: PANDAWN_CA, or those of gRPC)",
    )
    parser.add_argument(
        "--cert",
        type=Path,
        metavar="FILE",
        help="certificate with its chain, or a proxy (default with TLS: PANDAWN_CERT or"
        " X509_USER_PROXY)",
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="its key (default: PANDAWN_KEY, or in --cert)"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="bearer token that begins the session, - for the standard input"
        " (default: BEARER_TOKEN or BEARER_TOKEN_FILE)",
    )


def read_credentials(given: argparse.Namespace, server: str) -> Credentials:
    """Reads what options and environment name, for a server. Raises CredentialError.

    Tokens are taken out of the environment.
    """
    token, token_file = _token(given.token_file)
    authorities = _path(given.ca, "PANDAWN_CA")
    certificate = _path(given.cert, "PANDAWN_CERT")
    tls = bool(given.tls or authorities or certificate or os.environ.get("PANDAWN_TLS") == "1")
    key_file = _path(given.key, "PANDAWN_KEY")
    if tls and certificate is None:
        certificate = _path(None, "X509_USER_PROXY")
    if tls and server.startswith("unix:"):
        raise CredentialError("a Unix socket needs no TLS; leave --tls, --ca and --cert away")
    if token and not tls and not is_local(server):
        raise CredentialError(
            f"a token would go to {server} over a line that others can read; give --tls or --ca"
        )
    if key_file is None:
        key_file = certificate
    chain = key = None
    if certificate is not None and key_file is not None:
        chain, key = _certificate(certificate, key_file)
    root = _authorities(authorities) if authorities is not None else None
    return Credentials(tls, root, chain, key, token, token_file, key_file)


def read_token_file(path: Path) -> str:
    """The token in a file that is for us alone. Raises CredentialError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            text = stream.read(_MAX_TOKEN_BYTES)
    except OSError as error:
        raise CredentialError(f"the token file {path} cannot be read: {error.strerror}") from error
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        raise CredentialError(f"the token file {path} may be read by everybody; chmod 600 {path}")
    return _checked(text, f"the token file {path}")


def is_local(server: str) -> bool:
    """Whether what is sent to a server stays on this machine."""
    if server.startswith("unix:"):
        return True
    host = server.rpartition(":")[0].strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(option: str | None) -> tuple[str, Path | None]:
    variables = {name: take_variable(name) for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE")}
    if option == STANDARD_INPUT:
        text = sys.stdin.buffer.read(_MAX_TOKEN_BYTES)
        return _checked(text, "the standard input"), None
    if option:
        path = Path(option).absolute()
        return read_token_file(path), path
    if variables["BEARER_TOKEN"]:
        return _checked(variables["BEARER_TOKEN"].encode(), "BEARER_TOKEN"), None
    if variables["BEARER_TOKEN_FILE"]:
        path = Path(variables["BEARER_TOKEN_FILE"]).absolute()
        return read_token_file(path), path
    return "", None


def _checked(text: bytes, where: str) -> str:
    token = text.strip()
    # What a header can carry: anything else would be refused much later, and less clearly.
    if not token or not all(0x21 <= byte <= 0x7E for byte in token):
        raise CredentialError(f"{where} holds no token: one line of printable characters")
    return token.decode("ascii")


def _path(
    option: Path | None, variable: str, environ: Mapping[str, str] = os.environ
) -> Path | None:
    text = str(option) if option is not None else environ.get(variable, "")
    return Path(text).absolute() if text else None


def _certificate(certificate: Path, key_file: Path) -> tuple[bytes, bytes]:
    chain = _read(certificate, "certificate")
    key = _read(key_file, "key")
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        raise CredentialError(f"{certificate} holds no certificate in PEM")
    if b"PRIVATE KEY-----" not in key:
        raise CredentialError(f"{key_file} holds no private key in PEM; name it with --key")
    if b"ENCRYPTED" in key:
        raise CredentialError(
            f"the key in {key_file} has a pass phrase; make a proxy, or take the phrase off"
        )
    # Of a proxy, which holds both, each part goes where it belongs: gRPC takes nothing else in it.
    return _blocks(chain, b"CERTIFICATE-----"), _blocks(key, b"PRIVATE KEY-----")


def _blocks(pem: bytes, kind: bytes) -> bytes:
    found: list[bytes] = []
    inside = False
    for line in pem.splitlines():
        if line.startswith(b"-----BEGIN ") and line.strip().endswith(kind):
            inside = True
        if inside:
            found.append(line.strip())
        if line.startswith(b"-----END "):
            inside = False
    return b"\n".join(found) + b"\n"


def _authorities(path: Path) -> bytes:
    if not path.is_dir():
        return _read(path, "authorities")
    # As /etc/grid-security/certificates is: NAME.pem and links to it by hash.
    found = {item.resolve() for item in path.iterdir() if item.suffix in (".pem", ".0", ".crt")}
    pem = b"\n".join(_read(item, "authority") for item in sorted(found) if item.is_file())
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise CredentialError(f"there is no certificate of an authority in {path}")
    return pem


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialError(f"the {what} {path} cannot be read: {error.strerror}") from error
