"""What a pilot or a hook shows to a server: certificates, and the token that begins its session.

Files are read once; what is read stays in memory. A token never goes over a line that others can
read: that is refused before a connection is made.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import ssl
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc

from pandawn_client.authorities import read_authorities
from pandawn_client.environment import take_variable

_MAX_SECRET_BYTES = 64 * 1024
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL
)
# What may stand before an address, as gRPC takes it.
_SCHEME = re.compile(r"(dns:(//[^/]*/)?|ipv4:|ipv6:)", re.IGNORECASE)
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
    # What of the authorities could not be used, for the log.
    skipped: tuple[str, ...] = ()

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
        "--tls",
        action=argparse.BooleanOptionalAction,
        help="speak TLS (default: PANDAWN_TLS, else with all servers that are not on this machine)",
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="PATH",
        help="the authorities that the server's certificate is checked against, a file or a"
        " directory (default: PANDAWN_CA, X509_CERT_DIR, the system's)",
    )
    parser.add_argument(
        "--cert",
        type=Path,
        metavar="FILE",
        help="certificate with its chain, or a proxy (default: PANDAWN_CERT, without a token"
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
    if not _wants_tls(given.tls, server, names_any=bool(authorities or certificate)):
        if token and not is_local(server):
            raise CredentialError(
                f"a token would go to {server} for everybody on the way to read;"
                " leave --no-tls (PANDAWN_TLS=0) away, or the token"
            )
        return Credentials(token=token, token_file=token_file)
    key_file = _path(given.key, "PANDAWN_KEY")
    if certificate is None and not token:
        # Around on every grid node, and not for this server in particular.
        certificate = _path(None, "X509_USER_PROXY")
    root, skipped = _authorities(authorities)
    if certificate is None:
        return Credentials(tls=True, root=root, token=token, token_file=token_file, skipped=skipped)
    chain, key = _certificate(certificate, key_file or certificate)
    return Credentials(
        tls=True,
        root=root,
        chain=chain,
        key=key,
        token=token,
        token_file=token_file,
        key_file=key_file or certificate,
        skipped=skipped,
    )


def read_token_file(path: Path) -> str:
    """The token in a file that is for us alone. Raises CredentialError."""
    text = _read_private(path, "token file")
    return _checked(text, f"the token file {path}")


def is_local(server: str) -> bool:
    """Whether what is sent to a server stays on this machine."""
    if server.startswith(("unix:", "unix-abstract:")):
        return True
    host = _SCHEME.sub("", server).rpartition(":")[0].strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wants_tls(option: bool | None, server: str, *, names_any: bool) -> bool:
    if server.startswith("unix:"):
        if option or names_any:
            raise CredentialError("a Unix socket has no TLS; leave --tls, --ca and --cert away")
        return False
    if option is not None:
        return option
    variable = os.environ.get("PANDAWN_TLS", "")
    if variable not in ("", "0", "1"):
        raise CredentialError(f"PANDAWN_TLS is 0 or 1, not {variable!r}")
    return variable == "1" or (not variable and (names_any or not is_local(server)))


def _token(option: str | None) -> tuple[str, Path | None]:
    variables = {name: take_variable(name) for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE")}
    if option == STANDARD_INPUT:
        text = sys.stdin.buffer.read(_MAX_SECRET_BYTES)
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


def _path(option: Path | None, variable: str) -> Path | None:
    text = str(option) if option is not None else os.environ.get(variable, "")
    return Path(text).expanduser().absolute() if text else None


def _certificate(certificate: Path, key_file: Path) -> tuple[bytes, bytes]:
    # Of a proxy, which holds both, each part goes where it belongs: gRPC takes nothing else in it.
    content = _read_private(key_file, "key file")
    chain = content if key_file == certificate else _read(certificate, "certificate")
    certificates, keys = _CERTIFICATE.findall(chain), _KEY.findall(content)
    if not certificates:
        raise CredentialError(f"{certificate} holds no certificate in PEM")
    if not keys:
        raise CredentialError(f"{key_file} holds no private key in PEM; name its file with --key")
    if b"ENCRYPTED" in keys[0]:
        raise CredentialError(
            f"the key in {key_file} has a pass phrase, which nobody is there to type; make a proxy"
        )
    return b"\n".join(certificates) + b"\n", keys[0] + b"\n"


def _authorities(path: Path | None) -> tuple[bytes | None, tuple[str, ...]]:
    """The authorities, None for those of gRPC, and what was skipped of them."""
    if path is None:
        path = _path(None, "X509_CERT_DIR")
    if path is None:
        # The system's, among which an institute may have put its own; None: those of gRPC.
        system: str | None = ssl.get_default_verify_paths().cafile
        if system is None:
            return None, ()
        path = Path(system)
    try:
        found, skipped = read_authorities(path)
    except OSError as error:
        raise CredentialError(f"the authority {path} cannot be read: {error.strerror}") from error
    if not found:
        why = "".join(f"; {text}" for text in skipped)
        raise CredentialError(f"there is no certificate of an authority in {path}{why}")
    return b"\n".join(found) + b"\n", tuple(skipped)


def _read_private(path: Path, what: str) -> bytes:
    try:
        # What is no file, /dev/stdin say, is read as it is, and never waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            content = stream.read(_MAX_SECRET_BYTES)
    except OSError as error:
        raise CredentialError(f"the {what} {path} cannot be read: {error.strerror}") from error
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        raise CredentialError(f"the {what} {path} may be read by everybody; chmod 600 {path}")
    return content or b""


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialError(f"the {what} {path} cannot be read: {error.strerror}") from error
