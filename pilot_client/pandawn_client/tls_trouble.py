"""Diagnoses why a connection fails: the host name, or TLS.

gRPC reports the last address that it tried, which on a host with IPv4 and IPv6 is often the one without a
listener, and few details of TLS. So this repeats the handshake with Python's TLS, the same authorities and
the same certificate.
"""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass

from pandawn_client.address import is_socket
from pandawn_client.credentials import Credentials

_TIMEOUT_SECONDS = 3.0
# The preface of HTTP/2: a server without TLS responds to it, a server with TLS does not understand it. TLS 1.3
# reports errors about the client's certificate only after the handshake, so this provokes them.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})


@dataclass(frozen=True)
class Trouble:
    """A cause, and what to do about it."""

    cause: str
    remedies: tuple[str, ...]


def find_trouble(server: str, credentials: Credentials) -> Trouble | None:
    """The problem with the host name or with TLS; None if there is none. May take some seconds."""
    if is_socket(server):
        return None
    host, _, port = server.rpartition("/")[2].rpartition(":")
    host = host.strip("[]")
    try:
        context = _context(credentials) if credentials.tls else None
    except (ssl.SSLError, OSError, ValueError) as error:
        return Trouble(
            f"certificate and key do not match: {_words(error)}",
            ("give a matching pair: --cert FILE --key FILE",),
        )
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT_SECONDS) as raw:
            if context is None:
                return _without_tls(raw)
            return _with_tls(raw, host, server, context, credentials)
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            return None  # a temporary failure of DNS
        return Trouble(f"unknown host {host}", ("check the spelling of its name",))
    except (OSError, ValueError):
        return None  # no listener, which gRPC has reported


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if credentials.root is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=credentials.root.decode("ascii", "replace"))
    if credentials.chain and credentials.key:
        # The call accepts files only, and secrets must not be written to a disk.
        descriptor = os.memfd_create("certificate")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(credentials.chain + credentials.key)
            stream.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")
    return context


def _without_tls(raw: socket.socket) -> Trouble | None:
    raw.sendall(_PREFACE)
    if raw.recv(1):
        return None
    return Trouble(
        "the server closes connections without TLS",
        ("use TLS: --tls, or give the server's authority with --ca FILE",),
    )


def _with_tls(
    raw: socket.socket,
    host: str,
    server: str,
    context: ssl.SSLContext,
    credentials: Credentials,
) -> Trouble | None:
    try:
        with context.wrap_socket(raw, server_hostname=host) as tls:
            tls.sendall(_PREFACE)
            if tls.recv(1) or not credentials.chain:
                return None
            return _not_taken(credentials)
    except ssl.SSLCertVerificationError as error:
        return _not_verified(error, server)
    except socket.timeout:
        return None
    except OSError as error:
        return _broken_off(error, server, credentials)


def _not_taken(credentials: Credentials) -> Trouble:
    return Trouble(
        f"the server refuses our certificate, {credentials.certificate}",
        ("check that it has not expired, and that the server trusts its authority",),
    )


def _not_verified(error: ssl.SSLCertVerificationError, server: str) -> Trouble:
    cause = f"the server's certificate cannot be verified: {error.verify_message}"
    # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
    if error.verify_code in {62, 64}:
        return Trouble(cause, ("use the name in the certificate: --server NAME:PORT",))
    return Trouble(
        cause,
        (
            "give the authority that signed it: --ca FILE (or PANDAWN_CA, X509_CERT_DIR)",
            f"if it is given already, the connection may be intercepted: ask the operator of {server}",
        ),
    )


def _broken_off(error: OSError, server: str, credentials: Credentials) -> Trouble:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    if "CERTIFICATE_REQUIRED" in str(reason):
        return Trouble(
            "the server requires a client certificate",
            (
                "give one that it accepts: --cert FILE --key FILE (or X509_USER_PROXY, without a token)",
            ),
        )
    if reason in _NO_TLS:
        return Trouble(
            f"{server} does not use TLS",
            ("check the port; for a server on your own machine try --no-tls",),
        )
    if credentials.chain and "ALERT" in str(reason):
        return _not_taken(credentials)
    return Trouble(
        f"the TLS handshake failed: {_words(error)}",
        ("check the port, and ask the server's operator",),
    )


def _words(error: Exception) -> str:
    """An error such as `SSLV3_ALERT_CERTIFICATE_EXPIRED` as readable text."""
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).replace("_", " ").lower().rpartition("alert ")[2]
