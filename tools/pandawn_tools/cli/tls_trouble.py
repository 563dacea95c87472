"""Finds out why no connection comes about, of the name or of TLS, when none does.

gRPC tells of the last address of a server that it tried, which with two kinds of addresses is often the
one where nobody listens. So the handshake is tried once more here, by Python's own TLS, which says more.
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from pandawn_tools.cli.credentials import Credentials
from pandawn_tools.cli.settings import Address

_TIMEOUT_S = 3.0

# The beginning of HTTP/2: whoever speaks it answers, and whoever wants TLS does not understand it.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, and what to do about it."""

    cause: str
    remedies: Sequence[str]


def find_trouble(address: Address, credentials: Credentials) -> Trouble | None:
    """Returns what the name, TLS or the want of it has to do with it; None for nothing."""
    if address.is_socket:
        return None
    host, _, port = address.target.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT_S) as raw:
            if credentials.channel is None:
                return _without_tls(raw)
            return _with_tls(raw, host, address, credentials)
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            return None  # the name service does not answer, which may pass
        return Trouble(f"no machine is called {host}", ["check the spelling of its name"])
    except OSError:
        return None  # nobody is there at all, which gRPC said


def _without_tls(raw: socket.socket) -> Trouble | None:
    raw.sendall(_PREFACE)
    if raw.recv(1):
        return None
    return Trouble(
        "the server there hangs up on whoever speaks without TLS",
        ["speak TLS: --tls, or name the server's authority with --ca FILE"],
    )


def _with_tls(
    raw: socket.socket, host: str, address: Address, credentials: Credentials
) -> Trouble | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if credentials.authorities is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=credentials.authorities.decode("ascii", "replace"))
    try:
        with context.wrap_socket(raw, server_hostname=host) as tls:
            tls.sendall(_PREFACE)
            answers = bool(tls.recv(1))
    except ssl.SSLCertVerificationError as error:
        return _not_verified(error, address)
    except TimeoutError:
        return None
    except OSError as error:
        return _broken_off(error, address)
    if answers and credentials.certificate:
        # The handshake here showed none.
        return Trouble(
            f"the server takes callers without a certificate, and not with {credentials.certificate}",
            ["see whether it is still valid, and of an authority that the server trusts"],
        )
    return None


def _not_verified(error: ssl.SSLCertVerificationError, address: Address) -> Trouble:
    cause = f"the server's certificate is not good: {error.verify_message}"
    # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
    if error.verify_code in {62, 64}:
        return Trouble(cause, ["use the name that is in the certificate: --server NAME:PORT"])
    return Trouble(
        cause,
        [
            "name the authority that vouches for the server: --ca FILE (or PANDAWN_CA, X509_CERT_DIR)",
            f"if it is named, somebody may be in between: ask whoever runs {address.target}",
        ],
    )


def _broken_off(error: OSError, address: Address) -> Trouble:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    if "CERTIFICATE_REQUIRED" in str(reason):
        return Trouble(
            "the server takes nobody without a certificate",
            [
                "show one that it takes: --cert FILE --key FILE (or X509_USER_PROXY, without a token)"
            ],
        )
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        return Trouble(
            f"nobody speaks TLS at {address.target}",
            ["check the port; on your own machine --no-tls may be what it wants"],
        )
    return Trouble(
        f"TLS was broken off: {reason}",
        ["check the port, and ask whoever runs the server"],
    )
